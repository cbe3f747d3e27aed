// The progress of a sweep: a bar of its runs by outcome, with the numbers beside it.

import { total } from "./charts/numbers.js";
import { arrange, duration, element, say } from "./format.js";

/** States of a sweep that has ended. */
export const ENDS = ["FINISHED", "CANCELED"];

const PARTS = { finished: ["finished"], failed: ["failed", "crashed"], killed: ["killed", "preempted"], running: ["running", "preempting"] };
const ENDED = ["finished", "failed", "crashed", "killed", "preempted"];

export function countsOf(states) {
  const counts = {};
  for (const state of states) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

export function endedOf(counts) {
  return sum(counts, ENDED);
}

/** `count`: the maximum number of runs, null if unlimited. */
export function drawBar(bar, counts, count) {
  const known = sum(counts, Object.keys(counts));
  const whole = Math.max(count ?? known, known, 1);
  for (const [name, states] of Object.entries(PARTS)) {
    const part = bar.querySelector(`.${name}`) ?? bar.appendChild(element("span", { class: name }));
    const share = sum(counts, states) / whole;
    part.style.width = `${share * 100}%`;
    part.hidden = share === 0;
  }
  bar.setAttribute("aria-label", `${progressWords(counts, count)}: ${countWords(counts).join(", ") || "no runs yet"}`);
}

export function progressWords(counts, count) {
  const ended = endedOf(counts);
  return count === null ? `${ended} ended` : `${ended} of ${count} ended`;
}

/** Estimate the time left, from the mean duration of ended runs and the number of running ones. */
export function leftWords(count, ended, mean, running) {
  if (count === null || ended === 0 || running === 0 || !(mean >= 0)) return "unknown yet";
  return `about ${duration((Math.max(0, count - ended) * mean) / running)}`;
}

export function listCounts(list, counts) {
  const states = Object.keys(counts).sort((one, other) => place(one) - place(other));
  const items = states.map((state) => list.querySelector(`.state-${CSS.escape(state)}`) ?? element("li", { class: `state-${state}` }));
  states.forEach((state, index) => say(items[index], `${counts[state]} ${state}`));
  arrange(list, items);
}

function countWords(counts) {
  return Object.entries(counts).map(([state, many]) => `${many} ${state}`);
}

function sum(counts, states) {
  return total(states.map((state) => counts[state] ?? 0));
}

function place(state) {
  const found = [...ENDED, "running"].indexOf(state);
  return found < 0 ? 99 : found;
}

// A run's log: its last lines, then new ones. It follows the end until the reader scrolls away, and shows only
// lines with the searched text.

import { element, find, say } from "./format.js";
import { fetchJson, pause } from "./live.js";

const PERIOD_MS = 700;
const AWAY_MS = 5000;
const MOST_LINES = 20000;
const AT_THE_END_PX = 8;
const MOST_ERRORS = 200;

/** `failed`: called with the last lines of errors when new ones came. */
export async function followLog(base, failed) {
  const log = find("log");
  const follow = find("follow");
  log.addEventListener("scroll", () => {
    follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < AT_THE_END_PX;
  });
  const search = find("log-find");
  search.addEventListener("input", () => narrow(log, log.children, search.value));
  const errors = [];
  for (let next = null; ; ) {
    let wait = PERIOD_MS;
    try {
      const part = await fetchJson(next === null ? `${base}/log` : `${base}/log?after=${next}`);
      if (next === null && part.first > 0) say(find("log-more"), `${part.first} earlier lines are not shown`);
      add(log, part, follow.checked, search.value);
      errors.push(...part.errors.map((place) => part.lines[place]));
      errors.splice(0, errors.length - MOST_ERRORS);
      if (part.errors.length) failed(errors);
      if (part.over && part.lines.length === 0 && next !== null) wait = AWAY_MS;
      next = part.next;
    } catch (error) {
      if (error.isFinal ?? true) return;
      wait = AWAY_MS;
    }
    await pause(wait);
  }
}

/** Hide lines that lack `text`, and say how many the log shows. */
function narrow(log, lines, text) {
  const wanted = text.toLowerCase();
  for (const line of lines) line.hidden = !line.textContent.toLowerCase().includes(wanted);
  const hidden = log.querySelectorAll("[hidden]").length;
  say(find("log-found"), text ? `${log.childElementCount - hidden} of ${log.childElementCount} lines` : "");
}

function add(log, part, follow, wanted) {
  if (part.lines.length === 0) return;
  const errors = new Set(part.errors);
  const made = part.lines.map((line, place) => element("span", { class: errors.has(place) ? "error" : false }, `${line}\n`));
  log.append(...made);
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  if (wanted) narrow(log, made, wanted);
  if (follow) log.scrollTop = log.scrollHeight;
}

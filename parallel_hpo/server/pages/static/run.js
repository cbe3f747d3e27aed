// The live page of a run: parameters, logged values, media, log, files.

import { makeActions } from "./act.js";
import { mountRun } from "./charts/run.js";
import { anything, duration, element, find, number, say, time, tookOf, tookWords } from "./format.js";
import { fetchJson, keepUp, OVER_MS } from "./live.js";
import { followLog } from "./log.js";
import { showMedia } from "./media.js";
import { artifactCells, fileCells } from "./saved.js";

const PERIOD_MS = 1000;
const FACTS = [
  ["state", (run) => run.state],
  ["started", (run) => time(run.started)],
  ["took", (run) => [duration(tookOf(run)), tookWords(run)].filter(Boolean).join(", ")],
  ["worker", (run) => run.worker ?? ""],
  ["exit code", (run) => anything(run.exitcode)],
  ["program", (run) => run.program ?? ""],
  ["tags", (run) => run.tags.join(", ")],
  ["notes", (run) => run.notes ?? ""],
];
const FAILED = ["failed", "crashed"];
/** Values that the client logs by itself. */
const CLIENTS_OWN = { _timestamp: time, _runtime: duration };
const main = find("main");
const { base } = main.dataset;
const actions = makeActions(() => ({ name: seen.name, tags: seen.tags.join(", "), notes: seen.notes ?? "" }));
let mounted = false;
let seen = null;

function showFacts(run) {
  const list = find("facts");
  for (const [title, words] of FACTS) {
    let value = list.querySelector(`dd[data-fact="${title}"]`);
    if (value === null) {
      value = element("dd", { "data-fact": title });
      list.append(element("div", {}, element("dt", {}, title), value));
    }
    say(value, words(run));
    value.parentElement.hidden = value.textContent === "";
    if (title === "state") value.className = `state-${run.state}`;
  }
}

/** Cells are texts or elements. */
function showRows(id, rows) {
  const body = document.querySelector(`#${id} tbody`);
  rows.forEach((cells, place) => {
    const line = body.children[place] ?? body.appendChild(element("tr", {}, ...cells.map(() => element("td"))));
    cells.forEach((cell, column) => {
      if (typeof cell === "string") say(line.children[column], cell);
      else if (line.children[column].textContent !== cell.textContent) line.children[column].replaceChildren(cell);
    });
  });
  while (body.children.length > rows.length) body.lastElementChild.remove();
}

function pairs(values) {
  return Object.entries(values).map(([name, value]) => [name, (CLIENTS_OWN[name] ?? anything)(value)]);
}

function showFailure({ run, attempts }) {
  find("failure").hidden = !FAILED.includes(run.state);
  say(find("failure-reason"), attempts.at(-1)?.reason || `The run is ${run.state}; no reason is known.`);
}

function showErrors(lines) {
  const errors = find("failure-errors");
  say(errors, [...lines].join("\n"));
  errors.hidden = lines.length === 0;
}

function show(data) {
  showFacts(data.run);
  say(document.querySelector("h1"), data.run.name);
  showRows("parameters", pairs(data.parameters));
  showRows("summary", pairs(data.summary));
  showRows("files", data.files.map((file) => fileCells(file, base)));
  showRows("artifacts", data.artifacts.map((artifact) => artifactCells(artifact, base)));
  showRows("attempts", data.attempts.map(attemptCells));
  for (const name of ["files", "artifacts", "attempts"]) find(`${name}-section`).hidden = data[name].length === 0;
  showNeighbours(data.neighbours);
  showFailure(data);
  showMedia(data.media, base);
}

/** Link to the runs before and after this one; arrow keys lead there too. */
function showNeighbours(names) {
  names.forEach((name, place) => {
    const link = find(["before", "after"][place]);
    link.hidden = name === null;
    if (name !== null) link.href = `${main.dataset.home}/runs/${encodeURIComponent(name)}`;
  });
}

function attemptCells(attempt) {
  const took = attempt.started === null ? "" : duration((attempt.ended ?? Date.now() / 1000) - attempt.started);
  return [number(attempt.attempt), attempt.worker ?? "", attempt.device ?? "", time(attempt.started), took, attempt.outcome, attempt.reason, attempt.used];
}

async function ask() {
  const data = await fetchJson(base);
  seen = data.run;
  show(data);
  (await actions)(data.run.over ? ["edit", "delete"] : ["stop"]);
  if (!mounted) {
    mounted = true;
    mountRun(main, data, base);
  } else {
    main.dispatchEvent(new CustomEvent("run-data", { detail: data }));
  }
  return data.run.over ? OVER_MS : PERIOD_MS;
}

/** Mark values that may be outdated: a run may have ended since the last update. */
function gone() {
  const over = "the server has ended";
  if (seen === null) return over;
  const again = seen.sweep === null ? "parallel-hpo open shows more" : `parallel-hpo open ${seen.sweep} shows its sweep again`;
  if (seen.over) return `${over}; ${again}`;
  say(document.querySelector('dd[data-fact="state"]'), `was ${seen.state}`);
  actions.then((show) => show([]));
  return `${over}; ${again}`;
}

document.addEventListener("keydown", ({ key, target, altKey, ctrlKey, metaKey, shiftKey }) => {
  const id = { ArrowLeft: "before", ArrowRight: "after" }[key];
  const isFree = (target === document.body || target === main) && !(altKey || ctrlKey || metaKey || shiftKey);
  if (id && isFree && !find(id).hidden) find(id).click();
});
keepUp(ask, gone, () => !seen.over);
followLog(base, showErrors);

// Runs side by side: the selected ones, or else the best, with what differs between them.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { metricName, runColour } from "./charts/runs.js";
import { anything, duration, element, find, number, on, runLink, say, swatch, tookOf } from "./format.js";
import { ordered } from "./order.js";

const MOST_RUNS = 12;
const BEST_RUNS = 3;

/** A table with a column for each run, drawn while its tab is open. */
export function comparison(store, home) {
  const panel = find("panel-compare");
  const refresh = oncePerFrame(() => panel.hidden || draw());

  function draw() {
    const rows = rowsOf();
    const all = find("compare-all").checked;
    const facts = factsOf().map(([name, show]) => [name, rows.map(show)]);
    const differing = facts.filter(([, texts]) => all || new Set(texts).size > 1);
    const chosen = store.selected.size;
    const words = chosen > MOST_RUNS ? `The best ${MOST_RUNS} of ${chosen} selected runs` : chosen ? counted(chosen, "selected run") : "No run is selected; these are the best";
    say(find("compare-words"), `${words}; ${differing.length} of ${facts.length} values ${all ? "are shown" : "differ"}.`);
    const { id, name } = store.runs;
    sideBySide(panel.querySelector("table"), rows.map((row) => [runColour(store, row), name[row], runLink(home, id[row], name[row])]), differing);
  }

  function rowsOf() {
    const best = ordered(store, "value", store.minimizes, new Uint8Array(store.count).fill(1));
    const chosen = best.filter((row) => store.selected.has(store.runs.id[row]));
    return chosen.length ? chosen.slice(0, MOST_RUNS) : best.slice(0, BEST_RUNS);
  }

  /** Return the names of what is compared, and functions from a row to a text. */
  function factsOf() {
    const parameters = Object.entries(store.runs.parameters).map(([name, column]) => [name, (row) => anything(column[row]) || "not set"]);
    return [
      [metricName(store), (row) => number(store.runs.value[row]) || "–"],
      ["state", (row) => store.runs.state[row]],
      ["duration", (row) => duration(tookOf(store.times(row))) || "–"],
      ...parameters,
      ...store.loggedBesideMetric.map((name) => [name, (row) => anything(store.value(`logged.${name}`, row)) || "–"]),
    ];
  }

  for (const event of ["data", "selection"]) store.addEventListener(event, refresh);
  on("compare-all", "change", refresh);
  return refresh;
}

/** Show facts, [[name, texts]], in columns with titles, [[colour, name, shown]]. */
export function sideBySide(table, titles, facts) {
  const heads = titles.map(([colour, title, shown]) => element("th", { scope: "col", title }, element("span.row", {}, swatch(colour), shown)));
  const lines = facts.map(([name, texts]) => element("tr", {}, element("th", { scope: "row", title: name }, name), ...texts.map((text) => element("td", { title: text }, text))));
  table.tHead.replaceChildren(element("tr", {}, element("td"), ...heads));
  table.tBodies[0].replaceChildren(...lines);
}

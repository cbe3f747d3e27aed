// The filters of the runs: search, states, ranges of any column, the best runs. Each is a chip that removes it.

import { sorted } from "./charts/numbers.js";
import { columnsOf } from "./columns.js";
import { anything, button, checkbox, element, fill, find, number, on, say } from "./format.js";
import { predicateOf, QueryError } from "./query.js";

const PAUSE_MS = 120;

export function wireFilters(store) {
  const form = find("filters");
  let waiting;
  on("filter-text", "input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => search(store), PAUSE_MS);
  });
  on("filter-text", "keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
  on("filter-top", "change", () => filterBest(store));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    addRange(store, find("filter-column").value, find("filter-low").value, find("filter-high").value);
    find("filter-low").value = find("filter-high").value = "";
  });
  form.addEventListener("reset", () => {
    for (const name of store.filters.keys()) store.setFilter(name, null);
    say(find("filter-problem"), "");
    find("filter-text").focus();
  });
  store.addEventListener("data", () => refresh(store));
  store.addEventListener("filter", () => showActive(store));
  refresh(store);
}

function refresh(store) {
  offerColumns(store);
  offerStates(store);
  if (find("filter-top").value) filterBest(store);
}

function search(store) {
  const problem = find("filter-problem");
  const reading = { columns: columnsOf(store), value: (name, row) => store.value(name, row), texts: (row) => textOf(store, row) };
  try {
    store.setFilter("words", predicateOf(find("filter-text").value, reading));
    say(problem, "");
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    store.setFilter("words", null);
    say(problem, `The search can't be read: ${error.message}.`);
  }
}

function textOf(store, row) {
  const { id, name, state, worker, parameters } = store.runs;
  const given = Object.entries(parameters).map(([key, values]) => `${key}=${anything(values[row])}`);
  return [id[row], name[row], state[row], worker[row], number(store.runs.value[row]), ...given].join(" ").toLowerCase();
}

function filterBest(store) {
  const { value, selectedOptions: [chosen] } = find("filter-top");
  store.setFilter("best", best(store, value), chosen.textContent);
}

function filterStates(store) {
  const [on, off] = [true, false].map((wanted) => stateBoxes().flatMap((box) => (box.checked === wanted ? [box.value] : [])));
  const holds = (row) => !off.includes(store.runs.state[row]);
  store.setFilter("states", off.length ? holds : null, on.length ? `state: ${on.join(" or ")}` : "no state");
}

function stateBoxes() {
  return [...find("filter-states").querySelectorAll("input")];
}

function offerColumns(store) {
  const select = find("filter-column");
  const wanted = columnsOf(store).filter((column) => column.name !== "id");
  const chosen = wanted.some((column) => column.name === select.value) ? select.value : "value";
  fill(select, wanted.map((column) => [column.name, column.title]), chosen);
}

function offerStates(store) {
  const fieldset = find("filter-states");
  for (const state of new Set(store.runs.state)) {
    if (fieldset.querySelector(`input[value="${CSS.escape(state)}"]`)) continue;
    fieldset.append(checkbox(state, true, () => filterStates(store), { value: state }));
  }
}

function best(store, percent) {
  if (!percent) return null;
  const values = sorted(store.rows((row) => store.runs.value[row] !== null).map((row) => store.badness(row)));
  const bound = values[Math.max(1, Math.ceil((values.length * Number(percent)) / 100)) - 1] ?? -Infinity;
  return (row) => store.runs.value[row] !== null && store.badness(row) <= bound;
}

function addRange(store, name, low, high) {
  if (low.trim() === "" && high.trim() === "") return;
  const column = columnsOf(store).find((each) => each.name === name);
  const isNumeric = [low, high].every((text) => text.trim() === "" || Number.isFinite(Number(text)));
  const isRange = isNumeric && column.isNumber;
  const holds = isRange ? between(store, name, low, high) : containing(store, name, low || high);
  const words = isRange ? `${low || "…"} ≤ ${column.title} ≤ ${high || "…"}` : `${column.title} has “${low || high}”`;
  store.setFilter(`range ${name}`, holds, words);
}

function between(store, name, low, high) {
  const least = low.trim() === "" ? -Infinity : Number(low);
  const most = high.trim() === "" ? Infinity : Number(high);
  return (row) => {
    const value = store.value(name, row);
    return typeof value === "number" && least <= value && value <= most;
  };
}

function containing(store, name, typed) {
  const word = typed.toLowerCase();
  return (row) => anything(store.value(name, row)).toLowerCase().includes(word);
}

/** Show a chip for each filter with words, which removes it. A field whose filter was removed shows all again. */
function showActive(store) {
  const { filters } = store;
  find("filter-clear").hidden = filters.size === 0;
  if (!filters.has("best")) find("filter-top").value = "";
  if (!filters.has("states")) for (const box of stateBoxes()) box.checked = true;
  const [list, chips] = [find("ranges"), [...filters].filter(([, words]) => words)];
  const known = JSON.stringify(chips);
  if (list.dataset.shown === known) return;
  list.dataset.shown = known;
  list.replaceChildren(...chips.map(([name, words]) => element("li", { "data-filter": name }, chip(store, name, words))));
}

function chip(store, name, words) {
  const remove = () => {
    store.setFilter(name, null);
    find("filter-text").focus();
  };
  const made = button(words, remove, { "aria-label": `Remove the filter ${words}` });
  made.append(element("span.icon.cross"));
  return made;
}

// The runs of a sweep as columns, with the filtered and the selected ones.
// Table and charts share one store, so filters and selections apply to all of them.

import { tookOf } from "./format.js";

const WORDS = ["id", "name", "state", "value", "started", "ended", "spent", "since", "attempts", "worker", "sweep"];
/** Values of a run by name. */
const NESTED = ["parameters", "logged"];
const GOOD_LAST = Number.POSITIVE_INFINITY;

/**
 * Events: "data" (runs came or changed), "filter" (`shown` changed), "selection" (`selected` changed), "hover"
 * (`hovered` changed), "want" (`wanted` changed: logged values that the server should send, as they were asked for).
 */
export class Store extends EventTarget {
  sweep = null;
  parameters = [];
  workers = [];
  keys = [];
  /** Names of the values in summaries. */
  logged = [];
  wanted = new Set();
  best = null;
  revision = "";
  runs = Object.fromEntries([...WORDS.map((word) => [word, []]), ...NESTED.map((kind) => [kind, {}])]);
  count = 0;
  shown = new Uint8Array(0);
  /** Which runs pass the filters, hidden ones included. */
  listed = new Uint8Array(0);
  hidden = new Set();
  selected = new Set();
  hovered = null;
  #places = new Map();
  #filters = new Map();

  /** Return the rows for which `holds(row)`. */
  rows(holds = () => true) {
    return Array.from({ length: this.count }, (_, row) => row).filter((row) => holds(row));
  }

  get shownRows() {
    return this.rows((row) => this.shown[row]);
  }

  get selectedRows() {
    return [...this.selected].map((id) => this.row(id)).filter((row) => row !== undefined);
  }

  /** The metric, {name, goal}; null if the sweep has none. */
  get metric() {
    return this.sweep?.metric ?? null;
  }

  get loggedBesideMetric() {
    return this.logged.filter((name) => name !== this.metric?.name);
  }

  /** Return the row of a run; undefined if there is none. */
  row(id) {
    return this.#places.get(id);
  }

  /** Return a run's times for `tookOf`; a report of an earlier version has none of a ledger. */
  times(row) {
    const { started, ended, spent, since } = this.runs;
    return { started: started[row], ended: ended[row], spent: spent?.[row] ?? null, since: since?.[row] ?? null };
  }

  /** Return the values of all runs: "value", "duration", "parameters.lr", "logged.val/loss", …; null for runs without one. */
  column(name) {
    if (name === "duration") return this.#durations();
    return this.#known(name) ?? new Array(this.count).fill(null);
  }

  value(name, row) {
    return name === "duration" ? tookOf(this.times(row)) : (this.#known(name)?.[row] ?? null);
  }

  #known(name) {
    const kind = NESTED.find((each) => name.startsWith(`${each}.`));
    if (kind === undefined) return this.runs[name];
    const own = name.slice(kind.length + 1);
    const values = this.runs[kind]?.[own];
    if (kind === "logged" && values === undefined && !this.wanted.has(own)) {
      this.wanted.add(own);
      this.dispatchEvent(new Event("want"));
    }
    return values;
  }

  /** Apply an answer of the server. */
  merge(json) {
    const before = this.count;
    for (const word of ["sweep", "parameters", "workers", "keys", "logged", "best", "revision"]) {
      if (json[word] !== undefined) this[word] = json[word];
    }
    if (json.complete) this.#replace(json.runs);
    else if (json.runs.id.length > 0) this.#change(json.runs);
    if (json.complete || json.runs.id.length > 0) this.#filter();
    this.dispatchEvent(new CustomEvent("data", { detail: { complete: json.complete, changed: json.runs.id.length, before } }));
  }

  /** predicate(row): whether a row is shown; null removes the filter. `words`: what it says; "" if a field says it. */
  setFilter(name, predicate, words = "") {
    if (predicate === null) this.#filters.delete(name);
    else this.#filters.set(name, { predicate, words });
    this.#filter();
    this.dispatchEvent(new Event("filter"));
  }

  hide(ids, isHidden) {
    for (const id of ids) this.hidden[isHidden ? "add" : "delete"](id);
    this.#filter();
    this.dispatchEvent(new Event("filter"));
  }

  /** The words of the active filters, a Map by name. */
  get filters() {
    return new Map([...this.#filters].map(([name, { words }]) => [name, words]));
  }

  select(ids) {
    this.selected = new Set(ids);
    this.dispatchEvent(new Event("selection"));
  }

  choose(id, isChosen = !this.selected.has(id)) {
    const others = [...this.selected].filter((other) => other !== id);
    this.select(isChosen ? [...others, id] : others);
  }

  hover(id) {
    if (this.hovered === id) return;
    this.hovered = id;
    this.dispatchEvent(new Event("hover"));
  }

  /** Whether lower values are better. */
  get minimizes() {
    return this.metric?.goal !== "maximize";
  }

  /** Return a sort key for runs, best first; runs without a value come last. */
  badness(row) {
    const value = this.runs.value[row];
    if (value === null) return GOOD_LAST;
    return this.minimizes ? value : -value;
  }

  #replace(runs) {
    this.runs = runs;
    this.count = runs.id.length;
    this.#places = new Map(runs.id.map((id, row) => [id, row]));
    this.selected = new Set([...this.selected].filter((id) => this.#places.has(id)));
  }

  #change(runs) {
    for (const kind of NESTED) {
      for (const name of Object.keys(runs[kind])) this.runs[kind][name] ??= new Array(this.count).fill(null);
    }
    runs.id.forEach((id, place) => {
      if (!this.#places.has(id)) this.#places.set(id, this.count++);
      const row = this.#places.get(id);
      for (const word of WORDS) this.runs[word][row] = runs[word][place];
      for (const kind of NESTED) {
        for (const [name, column] of Object.entries(this.runs[kind])) column[row] = runs[kind][name]?.[place] ?? null;
      }
    });
  }

  #filter() {
    const predicates = [...this.#filters.values()].map(({ predicate }) => predicate);
    this.shown = new Uint8Array(this.count);
    this.listed = new Uint8Array(this.count);
    for (let row = 0; row < this.count; row++) {
      this.listed[row] = predicates.every((predicate) => predicate(row)) ? 1 : 0;
      this.shown[row] = this.listed[row] && !this.hidden.has(this.runs.id[row]) ? 1 : 0;
    }
  }

  #durations() {
    return this.runs.started.map((_, row) => tookOf(this.times(row)));
  }
}

// The runs of a sweep as columns, which of them the filters let through, and which are selected.
// Table and charts share one store: what one of them filters or selects, all of them show.

const WORDS = ["id", "name", "state", "value", "started", "ended", "attempts", "worker", "sweep"];
const GOOD_LAST = Number.POSITIVE_INFINITY;

/** Events: "data" (runs came or changed), "filter" (`shown` changed), "selection" (`selected` changed). */
export class Store extends EventTarget {
  sweep = null;
  parameters = [];
  workers = [];
  keys = [];
  best = null;
  revision = "";
  runs = Object.fromEntries([...WORDS.map((word) => [word, []]), ["parameters", {}]]);
  count = 0;
  shown = new Uint8Array(0);
  selected = new Set();
  #places = new Map();
  #filters = new Map();

  /** The place of a run in the columns; undefined: it isn't there. */
  row(id) {
    return this.#places.get(id);
  }

  /** The values of all runs: "value", "duration", "parameters.lr", …; null where a run has none. */
  column(name) {
    if (name === "duration") return this.#durations();
    if (name.startsWith("parameters.")) {
      return this.runs.parameters[name.slice("parameters.".length)] ?? new Array(this.count).fill(null);
    }
    return this.runs[name] ?? new Array(this.count).fill(null);
  }

  /** Take in what the server said: all runs, or those that changed. */
  merge(json) {
    const before = this.count;
    for (const word of ["sweep", "parameters", "workers", "keys", "best", "revision"]) {
      if (json[word] !== undefined) this[word] = json[word];
    }
    if (json.complete) this.#replace(json.runs);
    else if (json.runs.id.length > 0) this.#change(json.runs);
    if (json.complete || json.runs.id.length > 0) this.#filter();
    this.dispatchEvent(new CustomEvent("data", { detail: { complete: json.complete, changed: json.runs.id.length, before } }));
  }

  /** Let a filter decide which rows are shown: predicate(row) → true; null drops the filter. */
  setFilter(name, predicate) {
    if (predicate === null) this.#filters.delete(name);
    else this.#filters.set(name, predicate);
    this.#filter();
    this.dispatchEvent(new Event("filter"));
  }

  /** The names of the filters that are set. */
  get filters() {
    return [...this.#filters.keys()];
  }

  /** Select these runs and no others. */
  select(ids) {
    this.selected = new Set(ids);
    this.dispatchEvent(new Event("selection"));
  }

  /** Whether a lower value is a better one. */
  get minimizes() {
    return this.sweep?.metric?.goal !== "maximize";
  }

  /** A number by which runs can be put in order, the best one first; runs without a value come last. */
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
    for (const name of Object.keys(runs.parameters)) {
      this.runs.parameters[name] ??= new Array(this.count).fill(null);
    }
    runs.id.forEach((id, place) => {
      if (!this.#places.has(id)) this.#places.set(id, this.count++);
      const row = this.#places.get(id);
      for (const word of WORDS) this.runs[word][row] = runs[word][place];
      for (const [name, column] of Object.entries(this.runs.parameters)) {
        column[row] = runs.parameters[name]?.[place] ?? null;
      }
    });
  }

  #filter() {
    const predicates = [...this.#filters.values()];
    this.shown = new Uint8Array(this.count);
    for (let row = 0; row < this.count; row++) {
      this.shown[row] = predicates.every((predicate) => predicate(row)) ? 1 : 0;
    }
  }

  #durations() {
    const { started, ended } = this.runs;
    const now = Date.now() / 1000;
    return started.map((start, row) => (start === null ? null : (ended[row] ?? now) - start));
  }
}

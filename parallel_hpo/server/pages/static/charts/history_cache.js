/** Histories that have been read, by key, axis and run; what is missing or has grown is asked for, all at once. */

const POINTS_IN_ALL = 60_000; // so many are as much as a picture can show
const [LEAST_POINTS, MOST_POINTS] = [200, 2000];
const GROWING = new Set(["running", "pending"]);
const AT_MOST_EACH_MS = 2000;

/** The histories of a store's runs. */
export class HistoryCache {
  constructor(store, source, arrived) {
    Object.assign(this, { store, source, arrived, known: new Map(), loading: false, error: null, closed: false });
    this.stale = () => this.markGrown();
    store.addEventListener("data", this.stale);
  }

  /** Return what is known of rows as a Map by run id, and ask for the rest. */
  get(key, x, rows) {
    const name = `${x} ${key}`;
    if (!this.known.has(name)) this.known.set(name, new Map());
    const known = this.known.get(name);
    const points = Math.max(LEAST_POINTS, Math.min(MOST_POINTS, Math.round(POINTS_IN_ALL / (rows.length || 1))));
    const ids = rows.map((row) => this.store.runs.id[row]);
    const missing = ids.filter((id) => !(known.get(id)?.points >= Math.min(points, known.get(id)?.enough)) || known.get(id).stale);
    if (missing.length && !this.loading && this.error === null) this.load(known, { key, x, points }, missing);
    return known;
  }

  async load(known, asked, ids) {
    this.loading = true;
    const all = ids.length === this.store.count;
    try {
      const answer = await this.source.histories({ ...asked, runs: all ? null : ids.join(",") });
      for (const id of ids) known.set(id, { x: [], y: [], points: asked.points, enough: asked.points });
      for (const { id, x, y } of answer.runs) known.set(id, { ...this.shifted(id, asked.x, x), y, ...this.fullness(asked, x) });
      this.error = null;
    } catch (error) {
      this.error = error.message;
      setTimeout(() => (this.error = null), AT_MOST_EACH_MS);
    }
    this.loading = false;
    if (!this.closed) this.arrived();
  }

  /** A series of fewer points than asked for has them all: it needn't be asked for again. */
  fullness({ points }, x) {
    return { points, enough: x.length < points ? 0 : points * 1.5, read: performance.now() };
  }

  /** Times become seconds since the run's start. */
  shifted(id, axis, x) {
    if (axis !== "time" || !x.length) return { x };
    const start = this.store.runs.started[this.store.row(id)] ?? x[0];
    return { x: x[0] > 1e8 ? x.map((at) => at - Math.min(start, x[0])) : x };
  }

  /** Histories of runs that go on are old after each news; they are read again, but not all the time. */
  markGrown() {
    const now = performance.now();
    for (const known of this.known.values()) {
      for (const [id, series] of known) {
        const state = this.store.runs.state[this.store.row(id)];
        const changed = GROWING.has(state) || GROWING.has(series.state);
        if (changed && !(now - series.read < AT_MOST_EACH_MS)) series.stale = true;
        series.state = state;
      }
    }
  }

  close() {
    this.closed = true;
    this.store.removeEventListener("data", this.stale);
  }
}

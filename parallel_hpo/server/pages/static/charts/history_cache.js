/** Cache of histories by key, axis and run; missing and outdated ones are requested together. */

const POINTS_IN_ALL = 60_000; // as many as a picture can show
const [LEAST_POINTS, MOST_POINTS] = [200, 2000];
const GROWING = new Set(["running", "pending"]);
const AT_MOST_EACH_MS = 2000;
const EPOCH = 1e8; // seconds; greater values are clock times, not durations

function isEnough(series, points) {
  return series !== undefined && !series.stale && (series.points >= points || series.x.length < series.points);
}

export class HistoryCache {
  constructor(store, source, arrived) {
    Object.assign(this, { store, source, arrived, known: new Map(), loading: false, error: null });
  }

  /** Return the known histories, a Map by run id, and request the rest. */
  get(key, x, rows) {
    const name = `${x} ${key}`;
    if (!this.known.has(name)) this.known.set(name, new Map());
    const known = this.known.get(name);
    const points = Math.max(LEAST_POINTS, Math.min(MOST_POINTS, Math.round(POINTS_IN_ALL / (rows.length || 1))));
    const missing = rows.map((row) => this.store.runs.id[row]).filter((id) => !isEnough(known.get(id), points));
    if (missing.length && !this.loading && this.error === null) this.load(known, { key, x, points }, missing);
    return known;
  }

  async load(known, asked, ids) {
    this.loading = true;
    const runs = ids.length === this.store.count ? null : ids.join(",");
    const states = new Map(ids.map((id) => [id, this.store.runs.state[this.store.row(id)]])); // before what is read
    try {
      const answer = await this.source.histories({ ...asked, runs, seen: this.store.revision });
      const read = performance.now();
      for (const id of ids) known.set(id, { x: [], y: [], points: asked.points, read, state: states.get(id) });
      for (const { id, x, ...others } of answer.runs) Object.assign(known.get(id) ?? {}, others, { x: this.shifted(id, asked.x, x) });
      this.error = null;
    } catch (error) {
      this.error = error.message;
      setTimeout(() => (this.error = null), AT_MOST_EACH_MS);
    }
    this.loading = false;
    this.arrived();
  }

  /** Convert clock times to seconds since the run's start. */
  shifted(id, axis, x) {
    if (axis !== "time" || !(x[0] > EPOCH)) return x;
    const start = Math.min(this.store.runs.started[this.store.row(id)] ?? x[0], x[0]);
    return x.map((at) => at - start);
  }

  /** Mark histories of running runs as outdated; returns whether there are any. */
  markGrown() {
    const now = performance.now();
    let any = false;
    for (const known of this.known.values()) {
      for (const series of known.values()) {
        if (GROWING.has(series.state) && now - series.read >= AT_MOST_EACH_MS) [series.stale, any] = [true, true];
      }
    }
    return any;
  }
}

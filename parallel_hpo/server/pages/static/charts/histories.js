/** The histories of the selected runs, or else of the shown ones, over step or time. */

import { Chart } from "./chart.js";
import { plotCourses } from "./course.js";
import { HistoryCache } from "./history_cache.js";
import { metricOf, nameOf, onNews, ranked, runColour } from "./runs.js";

const MOST_RUNS = 200;
const AXES = [["step", "step"], ["time", "time since the run's start"]];

const OPTIONS = [
  { name: "key", label: "Value", kind: "choice", value: null, choices: [], main: true },
  { name: "x", label: "Over", kind: "choice", value: "step", choices: AXES },
  { name: "smoothing", label: "Smoothing", kind: "slider", value: 0, most: 0.99, step: 0.01 },
  { name: "log", label: "Log axis", kind: "tick", value: false },
];

export class Histories extends Chart {
  constructor(figure, context) {
    super(figure, { name: "histories", title: "Histories", options: structuredClone(OPTIONS) }, context);
    this.cache = new HistoryCache(this.store, context.source, this.again);
    this.follow({ data: onNews(this.again), filter: this.again, selection: this.again });
    this.follow({ data: () => this.readGrown() });
    this.again();
  }

  /** Update the list of keys; the metric's key is the default. */
  offerKeys() {
    const { keys } = this.store;
    const metric = metricOf(this.store)?.name;
    const first = keys.includes(metric) ? metric : (keys[0] ?? null);
    this.offer("key", keys.map((key) => [key, key]), keys.includes(this.wanted.key) ? this.wanted.key : first);
  }

  paint() {
    this.offerKeys();
    const { key, x } = this.wanted;
    const { rows, chosen } = wantedRows(this.store);
    this.drawn?.destroy();
    this.drawn = null;
    if (key === null) return this.say("No run has logged a number yet.");
    const got = this.cache.get(key, x, rows);
    const courses = rows.flatMap((row) => this.courseOf(row, got.get(this.store.runs.id[row]), chosen));
    this.describe(rows, courses, chosen);
    const label = { x: AXES.find(([value]) => value === x)[1] + (x === "time" ? " (s)" : ""), y: key };
    const look = { ...this.wanted, ...label, label: this.words.textContent };
    this.drawn = plotCourses(this, this.host, courses, look);
    return undefined;
  }

  /** Read the histories of running runs again, and draw them on arrival. */
  readGrown() {
    if (this.wanted.key !== null && this.cache.markGrown()) this.cache.get(this.wanted.key, this.wanted.x, wantedRows(this.store).rows);
  }

  courseOf(row, series, chosen) {
    if (!series?.x.length) return [];
    const id = this.store.runs.id[row];
    const pick = () => this.store.select([id]);
    return [{ ...series, name: nameOf(this.store, row), colour: runColour(this.store, row), width: chosen ? 1.75 : 1, pick }];
  }

  describe(rows, courses, chosen) {
    const runs = chosen ? "selected runs" : "shown runs";
    const { length: drawn } = courses;
    const more = rows.more ? ` Only the ${MOST_RUNS} best of ${rows.more} are drawn; select or filter to see others.` : "";
    const failed = this.cache.error ? ` Some could not be read: ${this.cache.error}.` : "";
    const waits = this.cache.loading ? " More are loading." : "";
    this.say(`${this.wanted.key} of ${drawn} ${runs}.${more}${waits}${failed}`);
  }

  rows() {
    const { key, x } = this.wanted;
    const known = key === null ? new Map() : this.cache.get(key, x, []);
    const lines = wantedRows(this.store).rows.flatMap((row) => {
      const [id, series] = [this.store.runs.id[row], known.get(this.store.runs.id[row])];
      return (series?.x ?? []).map((at, index) => [id, at, series.y[index]]);
    });
    return [["run", x, key ?? "value"], ...lines];
  }

  destroy() {
    this.cache.close();
    this.drawn?.destroy();
    super.destroy();
  }
}

/** Return the rows to draw: the selected ones, or else the shown ones; if there are too many, the best. */
function wantedRows(store) {
  const selected = [...store.selected].map((id) => store.row(id)).filter((row) => row !== undefined && row >= 0);
  if (selected.length) return { rows: selected.slice(0, MOST_RUNS), chosen: true };
  const shown = Array.from({ length: store.count }, (_, row) => row).filter((row) => store.shown[row]);
  if (shown.length <= MOST_RUNS) return { rows: shown, chosen: false };
  const ranks = ranked(store);
  const best = shown.sort((one, other) => (ranks[other] ?? -1) - (ranks[one] ?? -1)).slice(0, MOST_RUNS);
  return { rows: Object.assign(best, { more: shown.length }), chosen: false };
}

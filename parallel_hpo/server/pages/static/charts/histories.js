/** The histories of the selected runs, or else of the shown ones, over step or time. */

import { plotCourses } from "./course.js";
import { choice, listen, oncePerFrame, slider, tick } from "./elements.js";
import { Figure } from "./figure.js";
import { HistoryCache } from "./history_cache.js";
import { metricOf, nameOf, onNews, ranked } from "./runs.js";
import { sourceOf } from "./source.js";
import { onTheme, rowColour } from "./theme.js";

const MOST_RUNS = 200;
const AXES = [["step", "step"], ["time", "time since the run's start"]];

/** Draw the chart into an element; it follows the store. `options.base`: source of the histories. */
export function draw(section, store, { base }) {
  const chart = new Histories(section, store, sourceOf(base));
  return { destroy: () => chart.destroy() };
}

class Histories {
  constructor(section, store, source) {
    this.store = store;
    this.figure = new Figure(section, "Histories");
    this.cache = new HistoryCache(store, source, () => this.again());
    this.wanted = { key: null, x: "step", smoothing: 0, log: false };
    this.again = oncePerFrame(() => this.paint());
    this.makeControls();
    const grown = () => this.readGrown();
    this.ends = [
      listen(store, { data: onNews(this.again), filter: this.again, selection: this.again }),
      listen(store, { data: grown }),
      onTheme(this.again),
    ];
    this.again();
  }

  makeControls() {
    const set = (part) => this.again(Object.assign(this.wanted, part));
    this.keys = choice("Value", [], "", (key) => set({ key }));
    this.figure.controls.append(
      this.keys,
      choice("Over", AXES, "step", (x) => set({ x })),
      slider("Smoothing", 0.99, 0.01, 0, (smoothing) => set({ smoothing })),
      tick("Log axis", false, (log) => set({ log })),
    );
  }

  /** Update the list of keys; the metric's key is the default. */
  offerKeys() {
    const { keys } = this.store;
    const metric = metricOf(this.store)?.name;
    if (keys.join("\n") === this.offered) return;
    this.offered = keys.join("\n");
    this.keys.fill(keys.map((key) => [key, key]));
    if (!keys.includes(this.wanted.key)) this.wanted.key = keys.includes(metric) ? metric : (keys[0] ?? null);
    this.keys.select.value = this.wanted.key ?? "";
  }

  paint() {
    this.offerKeys();
    const { key, x } = this.wanted;
    const { rows, chosen } = wantedRows(this.store);
    this.drawn?.destroy();
    this.drawn = null;
    if (key === null) return this.figure.say("No run has logged a number yet.");
    const got = this.cache.get(key, x, rows);
    const courses = rows.flatMap((row) => this.courseOf(row, got.get(this.store.runs.id[row]), chosen));
    this.describe(rows, courses, chosen);
    const label = { x: AXES.find(([value]) => value === x)[1] + (x === "time" ? " (s)" : ""), y: key };
    const look = { ...this.wanted, ...label, label: this.figure.words.textContent };
    this.drawn = plotCourses(this.figure, this.figure.host, courses, look);
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
    return [{ ...series, name: nameOf(this.store, row), colour: rowColour(row), width: chosen ? 1.75 : 1, pick }];
  }

  describe(rows, courses, chosen) {
    const runs = chosen ? "selected runs" : "shown runs";
    const { length: drawn } = courses;
    const more = rows.more ? ` Only the ${MOST_RUNS} best of ${rows.more} are drawn; select or filter to see others.` : "";
    const failed = this.cache.error ? ` Some could not be read: ${this.cache.error}.` : "";
    const waits = this.cache.loading ? " More are loading." : "";
    this.figure.say(`${this.wanted.key} of ${drawn} ${runs}.${more}${waits}${failed}`);
  }

  destroy() {
    this.again.cancel();
    this.cache.close();
    for (const end of this.ends) end();
    this.drawn?.destroy();
    this.figure.remove();
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

/** The histories of the selected or else the shown runs; of many, with a band of quantiles. */

import { Chart, EARLIER, LOG, SMOOTHING } from "./chart.js";
import { axesOver, axisOver, bandOf, hitOfCurve, quantile, smoothed, specOfCourses } from "./course.js";
import { HistoryCache } from "./history_cache.js";
import { asText, counted, exactText, short, sorted } from "./numbers.js";
import { MOST_COLOURED, hitOf, hoveredRow, isColoured, isOpen, ranked, runColour, variedOf } from "./runs.js";
import { colours, palette } from "./theme.js";

const MOST_RUNS = 200;
const MOST_GROUPS = 8;
const QUARTERS = 4;
const OPTIONS = [
  { name: "key", label: "Value", kind: "choice", value: null, choices: [], main: true },
  { name: "x", label: "Over", kind: "choice", value: "step", choices: axesOver([]) },
  { name: "group", label: "Group by", kind: "choice", value: "", choices: [["", "nothing"]] },
  SMOOTHING,
  LOG,
  EARLIER,
  { name: "outliers", label: "Ignore outliers", kind: "tick", value: false },
];

export class Histories extends Chart {
  constructor(figure, context) {
    super(figure, { name: "histories", title: "Histories", options: OPTIONS }, context);
    this.cache = new HistoryCache(this.store, context.source, this.again);
    this.ownAxes = context.source.ownAxes;
    this.drawInPlot({ filter: this.again, selection: this.again });
    this.follow({ data: () => this.readGrown() });
  }

  /** Update the choices; the metric's key is the default. */
  offerKeys() {
    const { keys } = this.store;
    const metric = this.store.metric?.name;
    const first = keys.includes(metric) ? metric : (keys[0] ?? null);
    this.offer("key", keys.map((key) => [key, key]), keys.includes(this.wanted.key) ? this.wanted.key : first);
    const axes = axesOver(this.ownAxes ? keys : []);
    this.offer("x", axes, axes.some(([value]) => value === this.wanted.x) ? this.wanted.x : "step");
    const names = variedOf(this.store).map(({ name }) => name);
    this.offer("group", [["", "nothing"], ...names.map((name) => [name, name])], names.includes(this.wanted.group) ? this.wanted.group : "");
  }

  paint() {
    this.offerKeys();
    const { key, x, group, log, outliers } = this.wanted;
    const { rows, chosen } = wantedRows(this.store);
    if (key === null) {
      this.plot.clear();
      return this.say("No run has logged a number yet.");
    }
    const got = this.cache.get(key, x, rows);
    const courses = rows.flatMap((row) => this.courseOf(row, got.get(this.store.runs.id[row]), chosen));
    const bands = group ? this.bandsOf(courses) : courses.length > MOST_COLOURED ? [{ ...bandOf(courses), colour: colours().muted }] : [];
    this.describe(rows, courses, chosen);
    this.explain(group ? bands.map(({ text, colour }) => ({ text, colour })) : []);
    const look = {
      label: this.words.textContent,
      x: axisOver(x),
      y: { label: key, log, outliers },
      highlight: () => hoveredRow(this.store),
    };
    // grey curves first, the best last
    const order = courses.sort((one, other) => Number(isColoured(this.store, one.row)) - Number(isColoured(this.store, other.row)));
    return this.plot.draw(specOfCourses(group ? [] : order, bands, look));
  }

  bandsOf(courses) {
    const parameter = this.store.parameters.find(({ name }) => name === this.wanted.group);
    return groupsOf(this.store, parameter, courses.map(({ row }) => row)).map(({ text, rows, colour }) => {
      const members = courses.filter(({ row }) => rows.has(row));
      const hit = hitOfCurve(text, colour, [["runs", String(members.length)]]);
      return { ...bandOf(members, { mean: true }), colour, text, hit };
    });
  }

  readGrown() {
    if (this.wanted.key !== null && this.cache.markGrown()) this.cache.get(this.wanted.key, this.wanted.x, wantedRows(this.store).rows);
  }

  courseOf(row, series, chosen) {
    if (!series?.x.length) return [];
    const { store } = this;
    const { smoothing } = this.wanted;
    const own = isColoured(store, row);
    const y = smoothed(series.x, series.y, smoothing);
    return [{
      row, x: series.x, y, since: this.wanted.earlier ? series.since : null, strong: own ? null : colours().text, raw: smoothing && own ? series.y : null, colour: own ? runColour(store, row) : colours().muted,
      width: chosen ? 1.75 : own ? 1.4 : 1, alpha: own ? 0.95 : 0.3, dash: isOpen(store.runs.state[row]) && own ? [6, 3] : [],
      hit: (facts) => hitOf(store, row, facts),
    }];
  }

  describe(rows, courses, chosen) {
    const runs = counted(courses.length, chosen ? "selected run" : "shown run");
    const { length: drawn } = courses;
    const more = rows.more ? ` Only the ${MOST_RUNS} best of ${rows.more} are drawn; select or filter to see others.` : "";
    const band = drawn <= MOST_COLOURED || this.wanted.group ? "" : " The best are in colour; the band contains the middle 50 % and 80 %.";
    const groups = this.wanted.group ? ` Mean and standard deviation by ${this.wanted.group}.` : "";
    const failed = this.cache.error ? ` Some could not be read: ${this.cache.error}.` : "";
    const waits = this.cache.loading ? " More are loading." : "";
    this.say(`${this.wanted.key} of ${runs}.${more}${band}${groups}${waits}${failed}`);
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
}

/** Return the selected rows, or else the shown ones; of too many, the best. */
function wantedRows(store) {
  const { selectedRows: selected, shownRows: shown } = store;
  if (selected.length) return { rows: selected.slice(0, MOST_RUNS), chosen: true };
  if (shown.length <= MOST_RUNS) return { rows: shown, chosen: false };
  const ranks = ranked(store);
  const best = shown.sort((one, other) => (ranks[other] ?? -1) - (ranks[one] ?? -1)).slice(0, MOST_RUNS);
  return { rows: Object.assign(best, { more: shown.length }), chosen: false };
}

/** Group rows by a parameter, [{text, rows: Set, colour}]; the smallest of too many groups are one. */
function groupsOf(store, { name }, rows) {
  const column = store.column(`parameters.${name}`);
  const numbers = rows.map((row) => column[row]).filter((value) => typeof value === "number");
  const inQuarters = new Set(numbers).size > MOST_GROUPS ? quarters(numbers) : null;
  const textOf = (value) => (inQuarters && typeof value === "number" ? inQuarters(value) : asText(value));
  const groups = Map.groupBy(rows, (row) => (inQuarters ? textOf : exactText)(column[row]));
  const found = [...groups.values()].map((members) => {
    const order = column[members[0]];
    return { text: `${name}: ${textOf(order)}`, rows: new Set(members), order };
  });
  found.sort((one, other) => other.rows.size - one.rows.size);
  const rest = found.splice(found.length > MOST_GROUPS ? MOST_GROUPS - 1 : MOST_GROUPS);
  if (rest.length) found.push({ text: `${name}: ${rest.length} others`, rows: new Set(rest.flatMap((group) => [...group.rows])), order: null });
  found.sort((one, other) => (typeof one.order === "number" && typeof other.order === "number" ? one.order - other.order : one.text.localeCompare(other.text)));
  return found.map((group, index) => ({ ...group, colour: palette()[index] }));
}

function quarters(numbers) {
  const order = sorted(numbers);
  const bounds = Array.from({ length: QUARTERS + 1 }, (_, index) => quantile(order, index / QUARTERS));
  return (value) => {
    const part = Math.max(0, bounds.slice(1, -1).filter((bound) => value > bound).length);
    return `${short(bounds[part])} to ${short(bounds[part + 1])}`;
  };
}

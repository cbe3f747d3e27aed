/** The charts of a run's page: one per logged key, grouped by the keys' prefixes, loaded when it comes into view. */

import { element } from "../format.js";
import { Chart, EARLIER, LOG, SMOOTHING } from "./chart.js";
import { axesOver, axisOver, hitOfCurve, smoothed, specOfCourses } from "./course.js";
import { controlOf } from "./elements.js";
import { extent, short } from "./numbers.js";
import { Plot } from "./plot.js";
import { sourceOf } from "./source.js";
import { colours } from "./theme.js";

const POINTS = 2000;
/** Groups and units of system metrics, by names in wandb's system monitor. */
const SYSTEM_GROUPS = ["GPU", "CPU", "Memory", "Disk", "Network", "Other"];

const GROUPS = [[/\bgpu\b|\btpu\b/i, "GPU"], [/\bcpu\b/i, "CPU"], [/memory/i, "Memory"], [/\bdisk\b/i, "Disk"], [/\bnetwork\b/i, "Network"]];
const UNITS = [
  [/bytes$|network\.(sent|recv)$/i, "B"],
  [/MB$|disk\.(.*\.)?(in|out)$/, "MB"],
  [/GB$/, "GB"],
  [/percent$|^cpu$|\.(gpu|memory|memoryAllocated|fanSpeed|\w*Utilization)$/i, "%"],
  [/temp$/i, "°C"],
  [/watts$/i, "W"],
  [/clock$/i, "MHz"],
];
const SIZES = ["B", "kB", "MB", "GB", "TB"];
const KINDS = {
  run: { keysOf: (data) => data.keys, linesOf: (data) => data.run.history_lines, system: false, groupOf: prefixOf },
  system: { keysOf: (data) => data.system_keys, linesOf: (data) => data.run.event_lines, system: true, groupOf: systemGroup },
};
const OVER = { name: "x", label: "Over", kind: "choice", value: "step", choices: axesOver([]) };

function prefixOf(key) {
  return key.slice(0, Math.max(0, key.lastIndexOf("/")));
}

/** The charts of a section, one per key; their options are common. System metrics are folded at first. */
class RunCharts extends EventTarget {
  constructor(section, runData, source, look) {
    super();
    this.kind = KINDS[section.dataset.charts];
    Object.assign(this, { section, source, look, system: this.kind.system, charts: new Map(), groups: new Map() });
    this.options = structuredClone([...(this.system ? [] : [OVER]), SMOOTHING, LOG, ...(!this.system && runData.attempts?.length > 1 ? [EARLIER] : [])]);
    this.wanted = { x: "time", ...Object.fromEntries(this.options.map(({ name, value }) => [name, value])) };
    this.controls = element("div.chart-controls");
    this.empty = element("p.chart-words", {}, this.system ? "No system metrics have come." : "Nothing was logged.");
    this.body = element("div.chart-groups");
    section.append(this.controls, this.empty, this.body);
    const filter = element("input", { type: "search", input: () => this.filter(filter.value) });
    const label = element("label.control", {}, element("span", {}, "Keys that contain"), filter);
    this.controls.append(label, ...this.options.map((option) => controlOf(this, option)));
    this.observer = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => this.seen(target, isIntersecting)), {
      rootMargin: "200px",
    });
    this.lines = this.kind.linesOf(runData);
    this.update(this.kind.keysOf(runData) ?? []);
  }

  set(name, value) {
    this.wanted[name] = value;
    this.options.find((option) => option.name === name).value = value;
    this.dispatchEvent(new Event("options"));
    this.redraw(name !== "x");
  }

  follow(runData) {
    if (this.kind.linesOf(runData) === this.lines) return;
    this.lines = this.kind.linesOf(runData);
    this.update(this.kind.keysOf(runData) ?? []);
  }

  update(keys) {
    if (!this.system) this.options.find(({ name }) => name === "x").choices = axesOver(keys);
    this.dispatchEvent(new Event("options"));
    this.controls.hidden = keys.length === 0;
    this.empty.hidden = keys.length > 0;
    for (const key of keys) if (!this.charts.has(key)) this.add(key);
    for (const group of this.groups.values()) group.count.textContent = String(group.grid.children.length);
    this.redraw(false);
  }

  add(key) {
    const figure = this.gridOf(this.kind.groupOf(key)).appendChild(element("figure", { "data-key": key }));
    const chart = new KeyChart(figure, key, this);
    this.charts.set(key, chart);
    this.look.made?.(chart);
    this.observer.observe(figure);
  }

  /** Return the grid of a group's charts; groups come in order of their names, or of SYSTEM_GROUPS. */
  gridOf(name) {
    if (this.groups.has(name)) return this.groups.get(name).grid;
    const [grid, count] = [element("div.chart-grid"), element("span.chart-count")];
    const summary = element("summary", {}, name || "Values", " ", count);
    const details = element("details.chart-group", { open: !this.system, "data-group": name }, summary, grid);
    const order = (one) => (this.system ? SYSTEM_GROUPS.indexOf(one) : one);
    const next = [...this.groups].filter(([other]) => order(other) > order(name)).sort(([one], [other]) => (order(one) > order(other) ? 1 : -1))[0];
    this.body.insertBefore(details, next?.[1].details ?? null);
    this.groups.set(name, { details, grid, count });
    return grid;
  }

  seen(figure, visible) {
    this.charts.get(figure.dataset.key).seen(visible);
  }

  filter(text) {
    for (const [key, chart] of this.charts) chart.figure.hidden = !key.includes(text);
    for (const { details, grid } of this.groups.values()) {
      details.hidden = [...grid.children].every((figure) => figure.hidden);
      if (text) details.open = true;
    }
  }

  /** `known`: from loaded data. */
  redraw(known) {
    for (const chart of this.charts.values()) chart.redraw(known);
  }
}

class KeyChart extends Chart {
  constructor(figure, key, all) {
    super(figure, { name: key, title: key }, all.look);
    Object.assign(this, { key, all, visible: false, stale: true, points: null, reading: false });
    this.plot = new Plot(this);
  }

  seen(visible) {
    this.visible = visible;
    if (visible && this.stale) this.read();
  }

  redraw(known) {
    this.stale ||= !known;
    if (!this.visible) return;
    if (this.stale) this.read();
    else this.again();
  }

  async read() {
    if (this.reading) return;
    [this.reading, this.stale] = [true, false];
    const { x } = this.all.wanted;
    const asked = { key: this.key, x, points: POINTS, system: this.all.system ? 1 : null };
    try {
      this.points = sinceStart((await this.all.source.history(asked)).points, x);
      this.again();
    } catch (error) {
      this.say(`${this.key} could not be read: ${error.message}.`);
    }
    this.reading = false;
    if (this.stale && this.visible) this.read();
  }

  paint() {
    if (!this.points) return;
    const { x: over, smoothing, log, earlier } = this.all.wanted;
    const { y: values, unit } = this.all.system ? inUnit(this.key, this.points.y) : { y: this.points.y, unit: "" };
    this.describe(values, unit);
    const { x, since } = this.points;
    const colour = colours().accent;
    const course = {
      row: null, x, since: earlier ? since : null, y: smoothed(x, values, smoothing), raw: smoothing ? values : null, colour, width: 1.5, alpha: 1,
      hit: hitOfCurve(this.key, colour),
    };
    const spec = specOfCourses([course], [], {
      label: this.words.textContent,
      x: axisOver(over),
      y: { label: unit, log, whole: values.every(Number.isInteger), format: (value) => withUnit(value, unit) },
    });
    this.plot.draw(spec);
  }

  describe(y, unit) {
    const range = extent(y);
    if (!range) return this.say("No numbers.");
    const [last, least, most] = [y.at(-1), ...range].map((value) => withUnit(value, unit));
    return this.say(`last ${last}, minimum ${least}, maximum ${most}`);
  }

  rows() {
    return [[this.all.wanted.x, this.key], ...(this.points?.x ?? []).map((x, index) => [x, this.points.y[index]])];
  }
}

function withUnit(value, unit) {
  return unit ? `${short(value)} ${unit}` : short(value);
}

function sinceStart(points, axis) {
  if (axis !== "time" || !(points.x[0] > 1e8)) return points;
  return { ...points, x: points.x.map((at) => at - points.x[0]) };
}

function systemGroup(key) {
  return GROUPS.find(([pattern]) => pattern.test(key))?.[1] ?? "Other";
}

/** Return a system metric's values in a unit that fits them: {y, unit}; unit "" if it has none. */
function inUnit(key, values) {
  const unit = UNITS.find(([pattern]) => pattern.test(key.replace(/^system\./, "")))?.[1] ?? "";
  let size = SIZES.indexOf(unit);
  if (size < 0) return { y: values, unit };
  let [most, factor] = [values.reduce((high, value) => Math.max(high, Math.abs(value ?? 0)), 0), 1];
  for (; most >= 1000 && size < SIZES.length - 1; size++) [most, factor] = [most / 1000, factor / 1000];
  return { y: values.map((value) => (value === null ? null : value * factor)), unit: SIZES[size] };
}

/** Draw a run's charts. They follow "run-data" events of `root`: keys with new lines are read again. */
export function mountRun(root, runData, base, look = {}) {
  const source = sourceOf(base);
  const drawn = [...root.querySelectorAll("[data-charts]")].map((section) => new RunCharts(section, runData, source, look));
  root.addEventListener("run-data", ({ detail }) => drawn.forEach((charts) => charts.follow(detail)));
}

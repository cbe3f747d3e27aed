/** The charts of a run's page: one per logged key, loaded when it comes into view. */

import { Chart } from "./chart.js";
import { plotCourses } from "./course.js";
import { controlOf, element } from "./elements.js";
import { extent, short } from "./numbers.js";
import { colours } from "./theme.js";

const POINTS = 2000;
const HEIGHT = 220;
const AXES = [["step", "step"], ["time", "time (s)"]];

const KINDS = {
  run: { keysOf: (data) => data.keys, linesOf: (data) => data.run.history_lines, system: false, title: "Logged values" },
  system: { keysOf: (data) => data.system_keys, linesOf: (data) => data.run.event_lines, system: true, title: "System metrics" },
};
const OPTIONS = [
  { name: "x", label: "Over", kind: "choice", value: "step", choices: AXES },
  { name: "smoothing", label: "Smoothing", kind: "slider", value: 0, most: 0.99, step: 0.01 },
  { name: "log", label: "Log axis", kind: "tick", value: false },
];

/** The charts of a section, one per key; their options are common. */
export class RunCharts extends EventTarget {
  constructor(section, runData, source, look) {
    super();
    this.kind = KINDS[section.dataset.charts];
    Object.assign(this, { section, source, look, system: this.kind.system, charts: new Map(), options: structuredClone(OPTIONS) });
    if (this.system) this.options[0].value = "time";
    this.wanted = Object.fromEntries(this.options.map(({ name, value }) => [name, value]));
    this.controls = element("div", { class: "chart-controls" });
    this.grid = element("div", { class: "chart-grid" });
    this.empty = element("p", { class: "chart-words" }, this.system ? "No system metrics have come." : "Nothing was logged.");
    section.append(this.controls, this.empty, this.grid);
    const filter = element("input", { type: "search", input: () => this.filter(filter.value) });
    const label = element("label", { class: "control" }, element("span", {}, "Keys that contain"), filter);
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

  /** Follow new data of the run. */
  follow(runData) {
    if (this.kind.linesOf(runData) === this.lines) return;
    this.lines = this.kind.linesOf(runData);
    this.update(this.kind.keysOf(runData) ?? []);
  }

  /** Update the charts to the keys, and reload those in view. */
  update(keys) {
    this.controls.hidden = keys.length === 0;
    this.empty.hidden = keys.length > 0;
    for (const key of keys) if (!this.charts.has(key)) this.add(key);
    this.redraw(false);
  }

  add(key) {
    const figure = this.grid.appendChild(element("figure", { "data-key": key }));
    const chart = new KeyChart(figure, key, this);
    this.charts.set(key, chart);
    this.look.made?.(chart);
    this.observer.observe(figure);
  }

  seen(section, visible) {
    this.charts.get(section.dataset.key).seen(visible);
  }

  filter(text) {
    for (const [key, chart] of this.charts) chart.figure.hidden = !key.includes(text);
  }

  /** Redraw all charts in view, from loaded data or (`known` false) from new data. */
  redraw(known) {
    for (const chart of this.charts.values()) chart.redraw(known);
  }

  destroy() {
    this.observer.disconnect();
    for (const chart of this.charts.values()) chart.destroy();
    this.controls.remove();
    this.empty.remove();
    this.grid.remove();
  }
}

class KeyChart extends Chart {
  constructor(figure, key, all) {
    super(figure, { name: key, title: key }, all.look);
    Object.assign(this, { key, all, visible: false, stale: true, points: null, drawn: null, reading: false });
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
    this.drawn?.destroy();
    const { wanted } = this.all;
    this.describe();
    const look = { ...wanted, height: HEIGHT, x: AXES.find(([value]) => value === wanted.x)[1], y: this.key, label: this.words.textContent };
    const course = { ...this.points, name: this.key, colour: colours().accent, width: 1.25 };
    this.drawn = plotCourses(this, this.host, [course], look);
  }

  describe() {
    const { y } = this.points;
    const range = extent(y);
    if (!range) return this.say(`${this.key}: no numbers.`);
    return this.say(`${this.key}: last ${short(y.at(-1))}, minimum ${short(range[0])}, maximum ${short(range[1])}.`);
  }

  rows() {
    return [[this.all.wanted.x, this.key], ...(this.points?.x ?? []).map((x, index) => [x, this.points.y[index]])];
  }

  destroy() {
    this.drawn?.destroy();
    super.destroy();
  }
}

/** Convert times since the epoch to seconds since the first. */
function sinceStart(points, axis) {
  if (axis !== "time" || !(points.x[0] > 1e8)) return points;
  return { ...points, x: points.x.map((at) => at - points.x[0]) };
}

/** The charts of a run's page: one per logged key, loaded when it comes into view. */

import { plotCourses } from "./course.js";
import { choice, element, oncePerFrame, slider, tick } from "./elements.js";
import { Figure } from "./figure.js";
import { extent, short } from "./numbers.js";
import { sourceOf } from "./source.js";
import { colours, onTheme } from "./theme.js";

const POINTS = 2000;
const HEIGHT = 220;
const AXES = [["step", "step"], ["time", "time (s)"]];

/** Draw a chart for each key into a section; returns {update(keys), destroy}. `system`: system metrics. */
export function drawKeys(section, keys, base, { system = false } = {}) {
  const charts = new KeyCharts(section, sourceOf(base), system);
  charts.update(keys);
  return { update: (now) => charts.update(now), destroy: () => charts.destroy() };
}

class KeyCharts {
  constructor(section, source, system) {
    Object.assign(this, { section, source, system, charts: new Map(), wanted: { x: system ? "time" : "step", smoothing: 0, log: false } });
    this.controls = element("div", { class: "chart-controls" });
    this.grid = element("div", { class: "chart-grid" });
    this.empty = element("p", { class: "chart-words" }, system ? "No system metrics have come." : "Nothing was logged.");
    section.append(this.controls, this.empty, this.grid);
    this.makeControls();
    this.observer = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => this.seen(target, isIntersecting)), {
      rootMargin: "200px",
    });
    this.end = onTheme(() => this.again(true));
  }

  makeControls() {
    const set = (part, anew) => this.again(!anew, Object.assign(this.wanted, part));
    const filter = element("input", { type: "search", input: () => this.filter(filter.value) });
    this.controls.append(
      element("label", { class: "control" }, element("span", {}, "Keys that contain"), filter),
      choice("Over", AXES, this.wanted.x, (x) => set({ x }, true)),
      slider("Smoothing", 0.99, 0.01, 0, (smoothing) => set({ smoothing }, false)),
      tick("Log axis", false, (log) => set({ log }, false)),
    );
  }

  /** Update the charts to the keys, and reload those in view. */
  update(keys) {
    this.controls.hidden = keys.length === 0;
    this.empty.hidden = keys.length > 0;
    for (const key of keys) if (!this.charts.has(key)) this.add(key);
    this.again(false);
  }

  add(key) {
    const section = this.grid.appendChild(element("section", { "data-key": key }));
    this.charts.set(key, new KeyChart(section, key, this));
    this.observer.observe(section);
  }

  seen(section, visible) {
    this.charts.get(section.dataset.key).seen(visible);
  }

  filter(text) {
    for (const [key, chart] of this.charts) chart.figure.section.hidden = !key.includes(text);
  }

  /** Redraw all charts in view, from loaded data or (`known` false) from new data. */
  again(known) {
    for (const chart of this.charts.values()) chart.again(known);
  }

  destroy() {
    this.observer.disconnect();
    this.end();
    for (const chart of this.charts.values()) chart.destroy();
    this.controls.remove();
    this.empty.remove();
    this.grid.remove();
  }
}

class KeyChart {
  constructor(section, key, all) {
    Object.assign(this, { key, all, visible: false, stale: true, points: null, drawn: null, reading: false });
    this.figure = new Figure(section, key);
    this.paintSoon = oncePerFrame(() => this.paint());
  }

  seen(visible) {
    this.visible = visible;
    if (visible && this.stale) this.read();
  }

  again(known) {
    this.stale ||= !known;
    if (!this.visible) return;
    if (this.stale) this.read();
    else this.paintSoon();
  }

  async read() {
    if (this.reading) return;
    [this.reading, this.stale] = [true, false];
    const { x } = this.all.wanted;
    const asked = { key: this.key, x, points: POINTS, system: this.all.system ? 1 : null };
    try {
      this.points = sinceStart((await this.all.source.history(asked)).points, x);
      this.paintSoon();
    } catch (error) {
      this.figure.say(`${this.key} could not be read: ${error.message}.`);
    }
    this.reading = false;
    if (this.stale && this.visible) this.read();
  }

  paint() {
    if (!this.points) return;
    this.drawn?.destroy();
    const { wanted } = this.all;
    this.describe();
    const look = { ...wanted, height: HEIGHT, x: AXES.find(([value]) => value === wanted.x)[1], y: this.key, label: this.figure.words.textContent };
    const course = { ...this.points, name: this.key, colour: colours().accent, width: 1.25 };
    this.drawn = plotCourses(this.figure, this.figure.host, [course], look);
  }

  describe() {
    const { y } = this.points;
    const range = extent(y);
    if (!range) return this.figure.say(`${this.key}: no numbers.`);
    return this.figure.say(`${this.key}: last ${short(y.at(-1))}, minimum ${short(range[0])}, maximum ${short(range[1])}.`);
  }

  destroy() {
    this.paintSoon.cancel();
    this.drawn?.destroy();
  }
}

/** Convert times since the epoch to seconds since the first. */
function sinceStart(points, axis) {
  if (axis !== "time" || !(points.x[0] > 1e8)) return points;
  return { ...points, x: points.x.map((at) => at - points.x[0]) };
}

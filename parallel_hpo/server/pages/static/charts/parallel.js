/** Parallel coordinates: a line per run over the varied parameters and the metric. Brushes filter the whole page. */

import { element } from "../format.js";
import { UNSET, axisOf } from "./axes.js";
import { Brushes } from "./brushes.js";
import { Texts, layer, resize } from "./canvas.js";
import { Chart } from "./chart.js";
import { oncePerFrame } from "./elements.js";
import { brushForm } from "./parallel_form.js";
import { layout, paintAxes, paintBrush, paintChosen, paintLegend, paintLines } from "./parallel_paint.js";
import { followPointer } from "./parallel_pointer.js";
import { hoveredRow, isFailed, isOpen, metricName, onNews, ranked, variedOf, worstFirst } from "./runs.js";
import { colours } from "./theme.js";

const FILTER = "parallel";

const OPTIONS = [{ name: "log", label: "Log metric", kind: "tick", value: false }];

export class Parallel extends Chart {
  constructor(figure, context) {
    super(figure, { name: "parallel", title: "Parameters and metric", options: structuredClone(OPTIONS) }, context);
    this.brushes = new Brushes();
    this.form = brushForm(this.brushes, () => this.brushed());
    const clear = element("button", { type: "button", click: () => this.clear() }, "Clear ranges");
    this.controls.append(clear, this.form.element);
    this.makeCanvases();
    this.repaint = oncePerFrame(() => this.draw());
    this.follow({ data: onNews(this.again), filter: () => this.filtered(), selection: this.repaint, hover: () => this.paintOver() });
    this.ends.push(followPointer(this), this.repaint.cancel);
    this.observer = new ResizeObserver(this.again);
    this.observer.observe(this.host);
    this.paint();
  }

  makeCanvases() {
    this.base = layer("Parallel coordinates");
    this.over = layer(null);
    this.over.className = "chart-over";
    this.host.classList.add("chart-scroll", "chart-plot");
    this.host.tabIndex = 0;
    this.host.setAttribute("role", "group");
    this.host.setAttribute("aria-label", "Parallel coordinates, scrollable");
    this.host.append(this.base, this.over);
  }

  /** Compute axes, positions and sizes, and draw all. */
  paint() {
    const { store } = this;
    const settled = (row) => !isOpen(store.runs.state[row]);
    const varied = variedOf(store);
    const columns = varied.map((parameter) => store.column(`parameters.${parameter.name}`));
    this.axes = varied.map((parameter, index) => axisOf(parameter, columns[index]));
    this.columns = [...columns, store.column("value")];
    this.axes.push(axisOf({ name: "value", label: metricName(store), kind: "number", log: this.wanted.log }, store.column("value"), settled));
    this.places = this.axes.map((axis, index) => this.columns[index].map((value) => axis.place(value) ?? UNSET));
    this.order = Array.from({ length: store.count }, (_, row) => row);
    this.failed = store.runs.state.map(isFailed);
    this.shade = ranked(store);
    this.at = layout(new Texts(this.base.getContext("2d")), this.host.clientWidth, this.host.clientHeight, this.axes);
    this.form.refresh(this.axes);
    if (this.brushes.size) this.filter();
    this.draw();
  }

  /** Draw all lines and axes. */
  draw() {
    const known = colours();
    const context = resize(this.base, this.at.width, this.at.height);
    const texts = new Texts(context);
    paintLines(context, { ...this, rows: this.order, shown: this.store.shown }, known);
    const unset = this.places.map((places) => (places.includes(UNSET) ? "not set" : ""));
    if (unset.at(-1)) unset[unset.length - 1] = "no value";
    paintAxes(context, texts, this.axes, this.at, known, unset);
    const worst = worstFirst(this.store).map((row) => this.store.column("value")[row]);
    paintLegend(context, texts, metricName(this.store), worst, known);
    this.paintOver(known);
    this.describe();
  }

  /** Draw the upper layer: brushes, selected runs, the run under the pointer. */
  paintOver(known = colours()) {
    const context = resize(this.over, this.at.width, this.at.height);
    const chosen = [...this.store.selected].map((id) => this.store.row(id)).filter((row) => this.store.shown[row]);
    const hovered = hoveredRow(this.store);
    paintChosen(context, hovered === null ? chosen : [...chosen, hovered], this, known);
    this.axes.forEach((axis, index) => {
      for (const brush of this.brushedPlaces(axis)) paintBrush(context, this.at.x(index), brush, this.at, known);
    });
  }

  /** Return the selected ranges of an axis. */
  brushedPlaces(axis) {
    const whole = this.brushes.places(axis);
    if (whole) return [whole];
    const texts = this.brushes.get(axis.name)?.texts ?? [];
    const places = [...texts].map((text) => (text === null ? UNSET : axis.place(text))).filter((place) => place !== undefined);
    return places.map((place) => [place - 0.03, place + 0.03]);
  }

  /** Apply changed brushes. */
  brushed() {
    this.form.refresh(this.axes);
    this.filter();
    this.paintOver();
  }

  /** Set the store's filter to the runs that all brushes include. */
  filter() {
    const { brushes, axes, columns } = this;
    const used = axes.map((axis, index) => [axis.name, columns[index]]).filter(([name]) => brushes.has(name));
    const takes = (row) => used.every(([name, column]) => brushes.takes(name, column[row]));
    this.store.setFilter(FILTER, used.length ? takes : null);
  }

  /** Handle a changed filter: if all were removed, remove the brushes too. */
  filtered() {
    if (this.brushes.size && !this.store.filters.includes(FILTER)) this.clear();
    else this.repaint();
  }

  clear() {
    this.brushes.clear();
    this.brushed();
  }

  describe() {
    const shown = this.store.shown.reduce((sum, one) => sum + one, 0);
    const failed = this.failed.filter((failed, row) => failed && this.store.shown[row]).length;
    const chosen = this.brushes.words(this.axes);
    this.say(
      `${shown} of ${this.store.count} runs over ${this.axes.length - 1} varied parameters` +
        `${failed ? `, ${failed} of them failed (dashed)` : ""}. ` +
        (chosen.length ? `Ranges: ${chosen.join("; ")}.` : "Drag along an axis to filter runs."),
    );
  }

  rows() {
    const lines = this.rowsShown().map((row) => [this.store.runs.id[row], this.store.runs.state[row], ...this.columns.map((column) => column[row])]);
    return [["run", "state", ...this.axes.map(({ label }) => label)], ...lines];
  }

  rowsShown() {
    return this.order.filter((row) => this.store.shown[row]);
  }

  destroy() {
    this.observer.disconnect();
    this.store.setFilter(FILTER, null);
    super.destroy();
  }
}

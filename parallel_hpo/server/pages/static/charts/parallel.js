/** Parallel coordinates: a line per run over the varied parameters and the metric. Brushes filter the whole page. */

import { dress, scrolling } from "../format.js";
import { UNSET, axisOf } from "./axes.js";
import { Brushes } from "./brushes.js";
import { Texts, layer, resize } from "./canvas.js";
import { Chart, LOG } from "./chart.js";
import { oncePerFrame } from "./elements.js";
import { effectsOf } from "./importance.js";
import { counted } from "./numbers.js";
import { layout, paintAxes, paintBrush, paintChosen, paintLines } from "./parallel_paint.js";
import { followPointer } from "./parallel_pointer.js";
import { hoveredRow, isFailed, isOpen, loggedOf, metricName, onNews, qualityLegend, ranked, variedOf } from "./runs.js";
import { colours } from "./theme.js";

const OPTIONS = [
  { ...LOG, label: "Log metric" },
  { name: "logged", label: "Logged value", kind: "choice", value: "", choices: [["", "none"]] },
  { name: "all", label: "All parameters, even if they don't fit", kind: "tick", value: false },
];

export class Parallel extends Chart {
  constructor(figure, context) {
    super(figure, { name: "parallel", title: "Parameters and metric", options: OPTIONS }, context);
    this.brushes = new Brushes();
    this.makeCanvases();
    this.repaint = oncePerFrame(() => this.draw());
    this.follow({ data: onNews(this.again), filter: () => this.filtered(), selection: this.repaint, hover: () => this.paintOver() });
    followPointer(this);
    new ResizeObserver(this.again).observe(this.host);
    this.paint();
  }

  makeCanvases() {
    this.base = layer("Parallel coordinates");
    this.over = layer(null);
    this.over.className = "chart-over";
    this.host.classList.add("chart-scroll", "chart-plot");
    dress(this.host, scrolling("Parallel coordinates, scrollable"), this.base, this.over);
  }

  paint() {
    const { store } = this;
    const settled = (row) => !isOpen(store.runs.state[row]);
    const columns = variedOf(store).map((parameter) => [parameter, store.column(`parameters.${parameter.name}`)]);
    const choices = [["", "none"], ...loggedOf(store)];
    const own = choices.find(([value]) => value && value === this.wanted.logged);
    this.offer("logged", choices, own?.[0] ?? "");
    if (own) columns.push([{ name: own[0], label: own[1], kind: "number" }, store.column(own[0])]);
    const metric = { name: "value", label: metricName(store), kind: "number", log: this.wanted.log };
    /** All axes with their columns; `axes`, `columns` and `places` are of the drawn ones. */
    this.all = columns.map(([parameter, column]) => [axisOf(parameter, column), column]);
    this.all.push([axisOf(metric, store.column("value"), settled), store.column("value")]);
    const drawn = this.drawn();
    this.axes = drawn.map(([axis]) => axis);
    this.columns = drawn.map(([, column]) => column);
    this.places = this.axes.map((axis, index) => this.columns[index].map((value) => axis.place(value) ?? UNSET));
    this.order = store.rows();
    this.failed = store.runs.state.map(isFailed);
    this.shade = ranked(store);
    this.at = this.layout(this.axes);
    this.explain(qualityLegend(store));
    this.draw();
  }

  /** Return the axes that fit with their columns: the metric, those with ranges, then the most important parameters. */
  drawn() {
    if (this.wanted.all || this.fits(this.all)) return this.all;
    const order = ["value", this.wanted.logged, ...this.brushes.keys(), ...effectsOf(this.store, false).map(({ name }) => name)];
    const names = [...new Set(order)];
    const first = (number) => this.all.filter(([{ name }]) => names.indexOf(name) < number);
    let most = this.all.length - 1;
    while (most > 2 && !this.fits(first(most))) most--;
    return first(most);
  }

  fits(axes) {
    return this.layout(axes.map(([axis]) => axis)).width <= this.host.clientWidth;
  }

  layout(axes) {
    return layout(new Texts(this.base.getContext("2d")), this.host.clientWidth, this.host.clientHeight, axes);
  }

  draw() {
    const known = colours();
    const context = resize(this.base, this.at.width, this.at.height);
    const texts = new Texts(context);
    paintLines(context, { ...this, rows: this.order, shown: this.store.shown }, known);
    const unset = this.places.map((places) => (places.includes(UNSET) ? "not set" : ""));
    if (unset.at(-1)) unset[unset.length - 1] = "no value";
    paintAxes(context, texts, this.axes, this.at, known, unset);
    this.paintOver(known);
    this.describe();
  }

  /** Draw brushes, selected runs, and the run under the pointer. */
  paintOver(known = colours()) {
    const context = resize(this.over, this.at.width, this.at.height);
    const chosen = this.store.selectedRows.filter((row) => this.store.shown[row]);
    const hovered = hoveredRow(this.store);
    paintChosen(context, hovered === null ? chosen : [...chosen, hovered], this, known);
    this.axes.forEach((axis, index) => {
      for (const brush of this.brushedPlaces(axis)) paintBrush(context, this.at.x(index), brush, this.at, known);
    });
  }

  brushedPlaces(axis) {
    const whole = this.brushes.places(axis);
    if (whole) return [whole];
    const texts = this.brushes.get(axis.name)?.texts ?? [];
    const places = [...texts].map((text) => (text === null ? UNSET : axis.place(text))).filter((place) => place !== undefined);
    return places.map((place) => [place - 0.03, place + 0.03]);
  }

  /** Filter by the brush of an axis, or no more if it has none. */
  brushed(axis) {
    const { brushes, store } = this;
    const { name } = axis;
    const isOwn = name === "value" || name === this.wanted.logged;
    const takes = (row) => brushes.takes(name, store.value(isOwn ? name : `parameters.${name}`, row));
    if (brushes.has(name)) store.setFilter(filterOf(name), takes, brushes.words(axis));
    else store.setFilter(filterOf(name), null);
  }

  /** Remove the brushes whose filter was removed. */
  filtered() {
    const { filters } = this.store;
    for (const name of [...this.brushes.keys()]) if (!filters.has(filterOf(name))) this.brushes.delete(name);
    this.repaint();
  }

  clear() {
    for (const name of this.brushes.keys()) this.store.setFilter(filterOf(name), null);
  }

  describe() {
    const shown = this.store.shownRows;
    const failed = shown.filter((row) => this.failed[row]).length;
    const [all, drawn] = [this.all, this.axes.map((axis) => [axis])].map((axes) => axes.filter(([{ name }]) => name !== "value" && name !== this.wanted.logged).length);
    this.say(
      `${shown.length} of ${this.store.count} runs over ${drawn < all ? `the ${drawn} most important of ` : ""}${counted(all, "varied parameter")}` +
        `${failed ? `, ${failed} of them failed (dashed)` : ""}. Drag along an axis to filter runs.`,
    );
  }

  rows() {
    const lines = this.store.shownRows.map((row) => [this.store.runs.id[row], this.store.runs.state[row], ...this.all.map(([, column]) => column[row])]);
    return [["run", "state", ...this.all.map(([{ label }]) => label)], ...lines];
  }
}

function filterOf(name) {
  return `axis ${name}`;
}

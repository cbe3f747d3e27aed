/** The importance of each varied parameter alone, as a list with bars; the colour is the correlation's sign. */

import { element } from "../format.js";
import { layer, resize } from "./canvas.js";
import { Chart } from "./chart.js";
import { centred, exactText, isMissing, squares, total } from "./numbers.js";
import { isFailed, onNews, variedOf } from "./runs.js";
import { colours, fontOf, signColours } from "./theme.js";

const WHAT_IT_IS =
  "Share of the variance of the metric's ranks that each parameter explains alone, corrected for chance; with " +
  "Spearman's correlation. Interactions of parameters are not included.";
const LEAST_RUNS = 6;
const MOST_BINS = 8;
const OPTIONS = [{ name: "shown", label: "Shown runs only", kind: "tick", value: false }];

export class Importance extends Chart {
  constructor(figure, context) {
    super(figure, { name: "importance", title: "Importance of parameters", options: OPTIONS }, context);
    this.host.classList.add("chart-list");
    this.list = element("ol.chart-bars", { tabindex: 0, "aria-label": "Importance of parameters, scrollable" });
    this.host.append(this.list);
    this.words.title = WHAT_IT_IS;
    this.follow({ data: onNews(this.again), filter: () => this.wanted.shown && this.again() });
    this.again();
  }

  paint() {
    const effects = effectsOf(this.store, this.wanted.shown);
    const [falls, rises] = signColours();
    const signs = [[1, rises, "rises"], [-1, falls, "falls"]].filter(([sign]) => effects.some((one) => Math.sign(roundedOf(one)) === sign));
    this.explain(signs.map(([, colour, word]) => ({ text: `metric ${word} with it`, colour })));
    this.list.replaceChildren(...effects.map(lineOf));
    const first = effects[0]?.importance ? `${effects[0].name} matters most. ` : "";
    this.say(effects.length ? `${first}Each alone, by ranks.` : "No parameter varies.");
  }

  rows() {
    const lines = effectsOf(this.store, this.wanted.shown).map((one) => [one.name, one.importance, one.correlation, one.runs]);
    return [["parameter", "importance", "correlation", "runs"], ...lines];
  }

  picture() {
    return paintBars(effectsOf(this.store, this.wanted.shown));
  }
}

/** Return the effects of the varied parameters, greatest first. */
export function effectsOf(store, shownOnly) {
  const counts = (row) => !isFailed(store.runs.state[row]) && (!shownOnly || store.shown[row]);
  const values = store.column("value").map((value, row) => (counts(row) ? value : null));
  return variedOf(store)
    .map(({ name }) => ({ name, ...effect(store.column(`parameters.${name}`), values) }))
    .sort((one, other) => (other.importance ?? -1) - (one.importance ?? -1));
}

function roundedOf({ correlation }) {
  return correlation === null ? 0 : Math.round(correlation * 100) / 100 + 0; // no -0.00
}

function colourOf(one, neutral) {
  const [falls, rises] = signColours();
  const rounded = roundedOf(one);
  return rounded ? (rounded > 0 ? rises : falls) : neutral;
}

function textOf(one) {
  return one.importance === null ? "too few runs" : one.importance.toFixed(2);
}

function signOf(one) {
  const rounded = roundedOf(one);
  return one.correlation === null ? "" : `${rounded > 0 ? "+" : rounded < 0 ? "−" : ""}${Math.abs(rounded).toFixed(2)}`;
}

function lineOf(one) {
  const bar = element("span.chart-bar", { "aria-hidden": "true" });
  bar.style.setProperty("--share", `${100 * (one.importance ?? 0)}%`);
  bar.style.setProperty("--colour", colourOf(one, "var(--muted)"));
  const sign = element("span.chart-sign", { title: "Spearman's correlation" }, signOf(one));
  return element("li", { title: `${one.runs} runs` }, element("span.chart-name", { title: one.name }, one.name), bar, element("span", {}, textOf(one)), sign);
}

function paintBars(effects) {
  const [known, made, width, line] = [colours(), layer(null), 640, 24];
  const context = resize(made, width, Math.max(1, effects.length) * line);
  Object.assign(context, { font: fontOf(12), textBaseline: "middle" });
  const names = Math.min(300, Math.max(0, ...effects.map(({ name }) => context.measureText(name).width)));
  effects.forEach((one, index) => {
    const middle = index * line + line / 2;
    context.fillStyle = known.text;
    context.fillText(one.name, 8, middle, names);
    context.fillText(`${textOf(one)}  ${signOf(one)}`, width - 110, middle);
    context.fillStyle = colourOf(one, known.muted);
    context.fillRect(names + 20, middle - 6, (width - names - 150) * (one.importance ?? 0), 12);
  });
  return made;
}

/**
 * Return {importance, correlation, runs} of a column for values; importance is null for fewer than six runs.
 *
 * Runs are grouped by the parameter (numbers: bins with equal numbers of runs). The importance is the share of the variance
 * of the metric's ranks between groups, corrected for chance (epsilon squared); the correlation is Spearman's.
 */
export function effect(column, values) {
  const rows = column.flatMap((value, row) => (!isMissing(value) && Number.isFinite(values[row]) ? [row] : []));
  if (rows.length < LEAST_RUNS) return { importance: null, correlation: null, runs: rows.length };
  const [given, got] = [rows.map((row) => column[row]), ranks(rows.map((row) => values[row]))];
  const numeric = given.every((value) => typeof value === "number");
  const bins = numeric ? binsOfNumbers(given) : given.map(exactText);
  return { importance: between(bins, got), correlation: numeric ? pearson(ranks(given), got) : null, runs: rows.length };
}

/** Equal values get their mean rank. */
export function ranks(values) {
  const order = values.map((_, index) => index).sort((one, other) => values[one] - values[other]);
  const ranked = new Array(values.length);
  for (let first = 0; first < order.length; ) {
    let last = first;
    while (last + 1 < order.length && values[order[last + 1]] === values[order[first]]) last++;
    for (let at = first; at <= last; at++) ranked[order[at]] = (first + last) / 2;
    first = last + 1;
  }
  return ranked;
}

/** A few distinct numbers get a bin each. */
function binsOfNumbers(values) {
  const count = Math.max(2, Math.min(MOST_BINS, Math.floor(Math.sqrt(values.length) / 1.5)));
  if (new Set(values).size <= count) return values;
  return ranks(values).map((rank) => Math.min(count - 1, Math.floor((rank / values.length) * count)));
}

function between(bins, values) {
  const groups = Map.groupBy(values, (_, index) => bins[index]);
  const [count, all] = [values.length, squares(values)];
  if (all === 0 || groups.size < 2 || groups.size >= count) return 0;
  const inside = total([...groups.values()].map(squares));
  return Math.max(0, 1 - (inside / all) * ((count - 1) / (count - groups.size)));
}

function pearson(one, other) {
  const theirs = centred(other);
  const both = total(centred(one).map((value, index) => value * theirs[index]));
  const spread = Math.sqrt(squares(one) * squares(other));
  return spread ? both / spread : 0;
}

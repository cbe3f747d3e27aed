/** The importance of each varied parameter alone, as a list with bars. */

import { Chart } from "./chart.js";
import { effect } from "./effects.js";
import { element } from "./elements.js";
import { isFailed, onNews } from "./runs.js";

const WHAT_IT_IS =
  "Share of the variance of the metric's ranks that each parameter explains alone, corrected for chance; with " +
  "Spearman's correlation. Interactions of parameters are not included.";

const OPTIONS = [{ name: "shown", label: "Shown runs only", kind: "tick", value: false }];

export class Importance extends Chart {
  constructor(figure, context) {
    super(figure, { name: "importance", title: "Importance of parameters", options: structuredClone(OPTIONS) }, context);
    this.follow({ data: onNews(this.again), filter: () => this.wanted.shown && this.again() });
    this.again();
  }

  paint() {
    list(this, effectsOf(this.store, this.wanted.shown));
  }

  rows() {
    const lines = effectsOf(this.store, this.wanted.shown).map((one) => [one.name, one.importance, one.correlation, one.runs]);
    return [["parameter", "importance", "correlation", "runs"], ...lines];
  }
}

/** Return the effects of the varied parameters, greatest first. */
function effectsOf(store, shownOnly) {
  const counts = (row) => !isFailed(store.runs.state[row]) && (!shownOnly || store.shown[row]);
  const values = store.column("value").map((value, row) => (counts(row) ? value : null));
  return store.parameters
    .filter((parameter) => parameter.varied)
    .map(({ name }) => ({ name, ...effect(store.column(`parameters.${name}`), values) }))
    .sort((one, other) => (other.importance ?? -1) - (one.importance ?? -1));
}

function list(figure, effects) {
  figure.host.replaceChildren(element("ol", { class: "chart-bars" }, ...effects.map(row)));
  const first = effects[0]?.importance ? `${effects[0].name} matters most. ` : "";
  figure.say(first + WHAT_IT_IS);
}

function row({ name, importance, correlation, runs }) {
  const bar = element("span", { class: "chart-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", `${100 * (importance ?? 0)}%`);
  const said = importance === null ? "too few" : importance.toFixed(2);
  const rounded = correlation === null ? 0 : Math.round(correlation * 100) / 100 + 0; // no -0.00
  const sign = correlation === null ? "" : `, correlation ${rounded > 0 ? "+" : ""}${rounded.toFixed(2)}`;
  return element("li", {}, element("span", { class: "chart-name" }, name), bar, element("span", {}, `${said}${sign}, ${runs} runs`));
}

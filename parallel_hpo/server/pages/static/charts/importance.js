/** The importance of each varied parameter alone, as a list with bars. */

import { effect } from "./effects.js";
import { element, listen, oncePerFrame, tick } from "./elements.js";
import { Figure } from "./figure.js";
import { isFailed, onNews } from "./runs.js";

const WHAT_IT_IS =
  "Share of the variance of the metric's ranks that each parameter explains alone, corrected for chance; with " +
  "Spearman's correlation. Interactions of parameters are not included.";

/** Draw the chart into an element; it follows the store. */
export function draw(section, store) {
  const figure = new Figure(section, "Importance of parameters");
  let shownOnly = false;
  const again = oncePerFrame(() => list(figure, store, shownOnly));
  figure.controls.append(tick("Shown runs only", false, (ticked) => again((shownOnly = ticked))));
  const end = listen(store, { data: onNews(again), filter: () => shownOnly && again() });
  again();
  return {
    destroy() {
      again.cancel();
      end();
      figure.remove();
    },
  };
}

function list(figure, store, shownOnly) {
  const counts = (row) => !isFailed(store.runs.state[row]) && (!shownOnly || store.shown[row]);
  const values = store.column("value").map((value, row) => (counts(row) ? value : null));
  const effects = store.parameters
    .filter((parameter) => parameter.varied)
    .map(({ name }) => ({ name, ...effect(store.column(`parameters.${name}`), values) }))
    .sort((one, other) => (other.importance ?? -1) - (one.importance ?? -1));
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

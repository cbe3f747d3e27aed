// What lists of runs share: the order by a column, in which rows without a value come last both ways, and the parts of a row.

import { exactText, isMissing } from "./charts/numbers.js";
import { element } from "./format.js";

/** Return the wanted rows, by default the shown ones, ordered by a column; `up`: ascending. */
export function ordered(store, name, up, wanted = store.shown) {
  const values = store.column(name);
  const [missing, there] = [true, false].map((isIt) => store.rows((row) => wanted[row] && isMissing(values[row]) === isIt));
  const way = up ? 1 : -1;
  there.sort((one, other) => way * compare(values[one], values[other]) || one - other);
  return [...there, ...missing];
}

export function goesUpAtFirst(store, name) {
  if (name === "value") return store.minimizes;
  return name !== "started" && name !== "ended";
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === "number") return -1;
  if (typeof other === "number") return 1;
  const [left, right] = [one, other].map(exactText);
  return left < right ? -1 : left > right ? 1 : 0;
}

export function selectionBox(store, id, label) {
  return element("input", { type: "checkbox", "aria-label": label, change: ({ target }) => store.choose(id, target.checked) });
}

/** Return the listeners by which a run's row is highlighted in all charts. */
export function followHover(store, id) {
  return { pointerenter: () => store.hover(id), pointerleave: () => store.hover(null) };
}

/** Highlight the run under the pointer among `lines`, a Map by run. */
export function pointAt(place, lines, store) {
  for (const line of place.querySelectorAll(".pointed")) line.classList.remove("pointed");
  lines.get(store.hovered)?.classList.add("pointed");
}

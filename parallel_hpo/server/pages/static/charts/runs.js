/** Functions of a store's runs for charts. */

import { isDark } from "./theme.js";

const GOLDEN_ANGLE = 137.508; // degrees: neighbouring rows get hues that are far apart

/** Return the colour of a row, the same in all charts and lists. */
export function runColour(store, row) {
  const hue = Math.round((row * GOLDEN_ANGLE + 210) % 360);
  return isDark() ? `hsl(${hue} 65% 66%)` : `hsl(${hue} 65% 40%)`;
}

/** Return whether a run in this state has failed. */
export function isFailed(state) {
  return state === "failed" || state === "crashed";
}

/** Return {name, goal} of the sweep's metric, or null. */
export function metricOf(store) {
  return store.sweep?.metric ?? null;
}

/** Return whether one value is better than another by the sweep's goal. */
export function isBetter(store, one, other) {
  return metricOf(store)?.goal === "maximize" ? one > other : one < other;
}

/** Return each row's quality from 0 (worst) to 1 (best); null without a value or for failed runs. */
export function ranked(store) {
  const values = store.column("value");
  const worstFirst = (one, other) => Number(isBetter(store, values[one], values[other])) - Number(isBetter(store, values[other], values[one]));
  const rows = rowsWith(values).filter((row) => !isFailed(store.runs.state[row])).sort(worstFirst);
  const ranks = values.map(() => null);
  rows.forEach((row, rank) => (ranks[row] = rows.length === 1 ? 1 : rank / (rows.length - 1)));
  return ranks;
}

/** Return the rows with a value. */
export function rowsWith(values) {
  return values.flatMap((value, row) => (value === null || value === undefined ? [] : [row]));
}

/** Return a run's display name. */
export function nameOf(store, row) {
  const [name, id] = [store.runs.name[row], store.runs.id[row]];
  return name && name !== id ? `${name} (${id})` : id;
}

/** Return a listener for a store's "data" events that ignores those without new or changed runs. */
export function onNews(heard) {
  return ({ detail }) => {
    if (!detail || detail.complete || detail.changed) heard();
  };
}

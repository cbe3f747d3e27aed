/** Runs in groups by a parameter's value: each category or number, or quarters of many numbers. */

import { quantile } from "./course.js";
import { asText, exactText, short } from "./numbers.js";
import { palette } from "./theme.js";

const MOST_GROUPS = 8;
const QUARTERS = 4;

/** Return the groups of rows by a parameter, [{text, rows: Set, colour}]; the smallest of too many are one. */
export function groupsOf(store, { name }, rows) {
  const column = store.column(`parameters.${name}`);
  const values = rows.map((row) => column[row]);
  const numbers = values.filter((value) => typeof value === "number");
  const distinct = new Set(numbers).size;
  const textOf = distinct > MOST_GROUPS ? quarters(numbers) : null;
  const groups = new Map();
  rows.forEach((row, index) => {
    const value = values[index];
    const text = textOf && typeof value === "number" ? textOf(value) : asText(value);
    const key = textOf ? text : exactText(value);
    if (!groups.has(key)) groups.set(key, { text: `${name}: ${text}`, rows: new Set(), order: value });
    groups.get(key).rows.add(row);
  });
  const found = [...groups.values()].sort((one, other) => other.rows.size - one.rows.size);
  const rest = found.splice(found.length > MOST_GROUPS ? MOST_GROUPS - 1 : MOST_GROUPS);
  if (rest.length) found.push({ text: `${name}: ${rest.length} others`, rows: new Set(rest.flatMap((group) => [...group.rows])), order: null });
  found.sort((one, other) => (typeof one.order === "number" && typeof other.order === "number" ? one.order - other.order : one.text.localeCompare(other.text)));
  return found.map((group, index) => ({ ...group, colour: palette()[index] }));
}

/** Return a function that names the quarter of a number among others. */
function quarters(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  const bounds = Array.from({ length: QUARTERS + 1 }, (_, index) => quantile(sorted, index / QUARTERS));
  return (value) => {
    const part = Math.max(0, bounds.slice(1, -1).filter((bound) => value > bound).length);
    return `${short(bounds[part])} to ${short(bounds[part + 1])}`;
  };
}

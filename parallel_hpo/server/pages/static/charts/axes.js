import { exactText, extent, isMissing, sorted } from "./numbers.js";
import { scaleOf } from "./scales.js";

/** Position of runs without a value: below the axis. */
export const UNSET = -0.1;

/**
 * Return the axis of a column: {name, label, numeric, missing, log, place(value), scale(low, high)}.
 *
 * counts(row): whether the row's value extends the axis; others beyond its ends stand at the ends.
 */
export function axisOf({ name, label, kind, log, values: declared, low, high }, column, counts = () => true) {
  const present = column.filter((value) => !isMissing(value));
  const numeric = (kind === "number" || kind === "integer") && present.every((value) => typeof value === "number");
  const axis = { name, label: label ?? name, numeric, missing: present.length < column.length };
  if (!numeric) return { ...axis, ...categories([...(declared ?? []), ...present]) };
  const settled = column.filter((_, row) => counts(row));
  return { ...axis, ...numbers([settled, column, declared ?? [], [low, high]].find((values) => extent(values)) ?? [], log || isGeometric(declared), declared, kind === "integer") };
}

function numbers(column, wantsLog, declared, whole) {
  const known = extent(column);
  const [low, high] = known ?? [0, 1];
  const log = Boolean(wantsLog) && known !== null && low > 0;
  const listed = declared?.every((value) => typeof value === "number") ? declared : null;
  const kind = log ? "log" : "number";
  const scale = (from = low, to = high) => scaleOf({ kind, low: from, high: to, whole, listed });
  const { place, unplace } = scale();
  const placed = (value) => {
    if (typeof value !== "number" || !Number.isFinite(value) || (log && value <= 0)) return null;
    return Math.min(1, Math.max(0, place(value)));
  };
  return { log, kind, low, high, whole, listed, place: placed, unplace, scale };
}

/** Do listed numbers grow by a constant factor, as 16, 32, 64 do? */
function isGeometric(values) {
  if (!values || values.length < 3 || !values.every((value) => typeof value === "number" && value > 0)) return false;
  const [least, ...others] = sorted(values);
  const factor = others[0] / least;
  return factor > 1 && others.every((value, index) => Math.abs(value / (others[index - 1] ?? least) / factor - 1) < 1e-6);
}

function categories(values) {
  const texts = distinct(values);
  const scale = scaleOf({ kind: "names", low: 0, high: texts.length - 1, names: texts });
  const places = new Map(texts.map((text, index) => [text, scale.place(index)]));
  const place = (value) => (isMissing(value) ? null : places.get(exactText(value)));
  return { log: false, kind: "names", texts, place, scale: () => scale };
}

function distinct(values) {
  const byText = new Map(values.map((value) => [exactText(value), value]));
  const order = ([text, value], [other, otherValue]) =>
    typeof value === "number" && typeof otherValue === "number" ? value - otherValue : text.localeCompare(other);
  return [...byText].sort(order).map(([text]) => text);
}

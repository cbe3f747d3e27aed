/** Axes of the parallel coordinates: positions of values between 0 (bottom) and 1 (top). */

import { asText, extent, logSteps, roundSteps, short } from "./numbers.js";

/** Position of runs without a value: below the axis. */
export const UNSET = -0.1;
const MOST_TICKS = 8;

/** Return the axis of a column: {name, label, numeric, missing, log, place(value), ticks: [{at, text}]}. */
export function axisOf({ name, label, kind, log, values: declared }, column) {
  const present = column.filter((value) => value !== null && value !== undefined);
  const numeric = (kind === "number" || kind === "integer") && present.every((value) => typeof value === "number");
  const made = numeric ? numbers(column, log || isGeometric(declared), declared) : categories([...(declared ?? []), ...present]);
  return { name, label: label ?? name, numeric, missing: present.length < column.length, ...made };
}

function numbers(column, wantsLog, declared) {
  const known = extent(column);
  const [low, high] = known ?? [0, 1];
  const log = Boolean(wantsLog) && known !== null && low > 0;
  const scaled = log ? Math.log10 : (value) => value;
  const span = scaled(high) - scaled(low);
  const place = (value) => {
    if (typeof value !== "number" || !Number.isFinite(value)) return null;
    return span === 0 ? 0.5 : (scaled(value) - scaled(low)) / span;
  };
  const unplace = (at) => (log ? 10 ** (scaled(low) + at * span) : low + at * span);
  const listed = declared?.length <= MOST_TICKS ? declared.filter((value) => value >= low && value <= high) : null;
  const steps = listed ?? (log ? logSteps : roundSteps)(low, high, 5);
  const ticks = steps.map((value) => ({ at: place(value), text: short(value) }));
  return { log, low, high, listed, place, unplace, ticks };
}

/** Return whether listed numbers grow by a constant factor, as 16, 32, 64 do. */
function isGeometric(values) {
  if (!values || values.length < 3 || !values.every((value) => typeof value === "number" && value > 0)) return false;
  const sorted = [...values].sort((one, other) => one - other);
  const factor = sorted[1] / sorted[0];
  return factor > 1 && sorted.slice(1).every((value, index) => Math.abs(value / sorted[index] / factor - 1) < 1e-6);
}

function categories(values) {
  const texts = distinct(values);
  const places = new Map(texts.map((text, index) => [text, texts.length === 1 ? 0.5 : index / (texts.length - 1)]));
  const place = (value) => (value === null || value === undefined ? null : places.get(asText(value)));
  const stride = Math.ceil(texts.length / MOST_TICKS);
  const ticks = texts.filter((_, index) => index % stride === 0).map((text) => ({ at: places.get(text), text }));
  return { log: false, texts, place, ticks };
}

/** Return the distinct values as text: numbers by size, others alphabetically. */
function distinct(values) {
  const byText = new Map(values.map((value) => [asText(value), value]));
  const order = ([text, value], [other, otherValue]) =>
    typeof value === "number" && typeof otherValue === "number" ? value - otherValue : text.localeCompare(other);
  return [...byText].sort(order).map(([text]) => text);
}

/** Numbers, times and parameters' values as short text. */

const [LEAST_PLAIN, MOST_PLAIN] = [1e-3, 1e6]; // sizes outside are written with an exponent

export function isMissing(value) {
  return value === null || value === undefined;
}

export function sorted(values) {
  return [...values].sort((one, other) => one - other);
}

export function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

/** Return the differences from the mean. */
export function centred(values) {
  const mean = total(values) / values.length;
  return values.map((value) => value - mean);
}

export function squares(values) {
  return total(centred(values).map((value) => value * value));
}

/** Return a number with four significant digits; "–" for none. */
export function short(value) {
  if (isMissing(value) || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && size < MOST_PLAIN) return String(value);
  if (size < LEAST_PLAIN || size >= MOST_PLAIN) return exponential(value, 3).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

function exponential(value, decimals) {
  return value.toExponential(decimals).replace("e+", "e");
}

export function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** Return one format for all ticks of an axis: a function that writes each of them exactly. */
export function commonFormat(values) {
  if (values.length < 2) return short;
  const sizes = values.filter(Boolean).map(Math.abs);
  const [greatest, least] = [Math.max(...sizes, 0), Math.min(...sizes)];
  const digits = fewest((count) => values.every((value) => near(Number(value.toExponential(count)), value, greatest)));
  const decimals = fewest((count) => values.every((value) => near(Number(value.toFixed(count)), value, least)));
  if ((greatest < MOST_PLAIN && decimals <= digits + 3) || digits > 4) return (value) => value.toFixed(decimals);
  return (value) => (value === 0 ? "0" : exponential(value, digits));
}

/** Return one format for listed values: short unless that makes two of them alike. */
export function listedFormat(values) {
  return new Set(values.map((value) => asText(value))).size === values.length ? (value) => asText(value) : exactText;
}

/** Return one format for the ticks of a log axis. */
export function logFormat(values) {
  if (values.length < 2) return short;
  const isPlain = values.every((value) => value >= LEAST_PLAIN && value < MOST_PLAIN);
  return isPlain ? (value) => String(value) : (value) => exponential(value, 15).replace(/\.?0+e/, "e");
}

function fewest(holds) {
  let count = 0;
  while (count < 12 && !holds(count)) count++;
  return count;
}

function near(one, other, size) {
  return Math.abs(one - other) <= size * 1e-9;
}

export function asText(value, written = short) {
  if (isMissing(value)) return "not set";
  if (typeof value === "number") return written(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Return the text that tells a value from any other. */
export function exactText(value) {
  return asText(value, String);
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString();
}

/** Return the smallest and the greatest finite number, or null. */
export function extent(values, positive = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (typeof value !== "number" || !Number.isFinite(value) || (positive && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

/** Numbers, times and parameters' values as short text. */

/** Return a number with four digits; "–" for none. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** Return a parameter's value of any type as text. */
export function asText(value) {
  if (value === null || value === undefined) return "not set";
  if (typeof value === "number") return short(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Return seconds as "8.2 s", "3 min 04 s" or "2 h 07 min". */
export function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** Return the time of day in the browser's format. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString();
}

/** Return about `count` round numbers between two numbers. */
export function roundSteps(low, high, about) {
  if (!(high > low)) return [low];
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Return powers of ten between two positive numbers; if there are few, also their multiples by 2 and 5. */
export function logSteps(low, high, about) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const powers = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const within = (value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9);
  const inside = (digits) => powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter(within);
  const tens = inside([1]);
  if (tens.length >= 3) return tens.filter((_, index) => index % Math.ceil(tens.length / about) === 0);
  const finer = inside([1, 2, 5]);
  return finer.length >= 2 ? finer : roundSteps(low, high, about);
}

/** Return the smallest and the greatest finite number, optionally only positive ones; null if there is none. */
export function extent(values, positive = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (typeof value !== "number" || !Number.isFinite(value) || (positive && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

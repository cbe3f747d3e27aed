import { commonFormat, listedFormat, logFormat } from "./numbers.js";

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200]; // seconds
const DAY = 86400;
const UNITS = [["s", 1, 120], ["min", 60, 7200], ["h", 3600, 3 * DAY], ["d", DAY, Infinity]]; // [name, seconds, most seconds]

/**
 * Return a scale: {kind, low, high, place(value), unplace(place), ticks(most): [{value, text}]}, and for durations {unit}.
 *
 * kind: "number", "log", "time" (seconds since the epoch), "duration" (seconds), or "names" (places 0, 1, 2, … of `names`).
 * whole: ticks are whole numbers; listed: the only ticks, or every second one, third one, … of them.
 */
export function scaleOf({ kind = "number", low, high, whole = false, listed = null, names = null }) {
  const log = kind === "log";
  const scaled = log ? Math.log10 : (value) => value;
  const [from, span] = [scaled(low), scaled(high) - scaled(low)];
  const place = (value) => (span === 0 ? 0.5 : (scaled(value) - from) / span);
  const unplace = (at) => (log ? 10 ** (from + at * span) : from + at * span);
  const within = (values) => values.filter((value) => value >= low && value <= high);
  const unit = kind === "duration" ? UNITS.find(([, , most]) => high - low <= most) : null;
  const written = (values, formatOf = commonFormat) => values.map((value) => ({ value, text: formatOf(values)(value) }));
  const ticks = (most) => {
    if (kind === "names") return names.map((text, value) => ({ value, text })).filter(({ value }) => value >= low && value <= high);
    if (listed) return written(thinned(within(listed), most), listedFormat);
    if (kind === "time") return timeTicks(low, high, most);
    if (unit) return written(roundSteps(low / unit[1], high / unit[1], most)).map(({ value, text }) => ({ value: value * unit[1], text }));
    if (log) return written(logSteps(low, high, most), logFormat);
    return written(roundSteps(low, high, most, whole));
  };
  return { kind, log, low, high, place, unplace, ticks, unit: unit?.[0] };
}

function thinned(values, most) {
  const step = Math.ceil(values.length / Math.max(most, 1));
  return values.filter((_, index) => index % step === 0);
}

function roundSteps(low, high, most, whole = false) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / Math.max(most, 1)));
  const steps = [1, 2, 5, 10, 20, 50].map((digit) => digit * power).filter((step) => !whole || step >= 1);
  const countOf = (step) => Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1;
  const step = whole && !steps.length ? 1 : (steps.find((size) => countOf(size) <= most) ?? steps.at(-1));
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, countOf(step)) }, (_, index) => Number(((first + index) * step).toPrecision(14)));
}

/** Return powers of ten between two positive numbers; if there are few, also their multiples by 2 and 5. */
export function logSteps(low, high, most) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const powers = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const within = (value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9);
  const inside = (digits) => powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter(within);
  const tens = inside([1]);
  if (tens.length >= 3) return thinned(tens, most);
  const finer = inside([1, 2, 5]);
  if (finer.length >= 2) return finer.length <= most ? finer : tens.length ? tens : finer.slice(0, 1);
  return roundSteps(low, high, most);
}

/** Return ticks at round times of the reader's clock; a day's first tick is its date. */
function timeTicks(low, high, most) {
  const step = TIMES.find((size) => (high - low) / size <= most) ?? DAY * Math.ceil((high - low) / DAY / most);
  const midnight = new Date(low * 1000).setHours(0, 0, 0, 0) / 1000;
  const ticks = [];
  for (let value = midnight + Math.ceil((low - midnight) / step) * step; value <= high; value += step) {
    ticks.push({ value, text: timeText(new Date(value * 1000), step) });
  }
  return ticks;
}

function timeText(at, step) {
  const isMidnight = at.getHours() + at.getMinutes() + at.getSeconds() === 0;
  if (step >= DAY || isMidnight) return at.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}), hourCycle: "h23" });
}

import { duration } from "../format.js";
import { nearestIndex, paintBand, paintLine } from "./marks.js";
import { extent, short, sorted, squares, total } from "./numbers.js";

/** What curves run over: [[value, text]]. */
const AXES = [["step", "step"], ["time", "time since the run's start"]];
const OWN = "key."; // before the logged key that is an axis
const REACH = 24; // CSS pixels above and below a line
const EARLIER = 0.35; // strength of earlier attempts
const SPAN = 1000; // steps of the average over the whole range, for any number of points
const GRID = 160; // places at which curves are compared
const LEAST_SHARE = 0.25; // fraction of the curves that a place of a band needs

export function axesOver(keys) {
  return [...AXES, ...keys.map((key) => [OWN + key, key])];
}

export function axisOver(x) {
  const label = AXES.find(([value]) => value === x)?.[1] ?? x.slice(OWN.length);
  return x === "time" ? { kind: "duration", label, format: duration } : { kind: "number", label, whole: x === "step" };
}

/**
 * Return the spec of a plot of curves, null if there is nothing to draw.
 *
 * courses: [{row, name, colour, width, alpha, x: [], y: [], raw: [] (not smoothed), since, hit}], x rising; since: where
 * the run's last attempt begins; hit(facts) is what the pointer needs. bands: [{colour, x, low, middle, high, outer: [low, high]}].
 * look: {label, x: {kind, label}, y: {label, log, outliers, format}, highlight}.
 */
export function specOfCourses(courses, bands, look) {
  const lines = [...courses.map(({ y }) => y), ...bands.flatMap(({ low, high }) => [low, high])];
  const x = rangeOf([...courses.map((one) => one.x), ...bands.map((one) => one.x)], {});
  const y = rangeOf(lines, look.y);
  if (!x || !y) return null;
  return {
    label: look.label,
    x: { low: x[0], high: x[1], ...look.x },
    y: { low: y[0], high: y[1], kind: look.y.log ? "log" : "number", label: look.y.label },
    paint(context, place) {
      for (const band of bands) {
        if (band.outer) paintBand(context, band.x, ...band.outer, place, band.colour, 0.12);
        paintBand(context, band.x, band.low, band.high, place, band.colour, 0.2);
      }
      for (const course of courses) paintCourse(context, course, place);
      for (const { x: xs, middle, colour } of bands) paintLine(context, xs, middle, place, { colour, width: 2 });
    },
    paintOver(context, place) {
      const course = courses.find(({ row }) => row === look.highlight?.());
      if (course) paintLine(context, course.x, course.y, place, { colour: course.strong ?? course.colour, width: 3 });
    },
    near: (place, left, top) => nearest(courses, bands, place, left, top, look),
  };
}

function paintCourse(context, { x, y, raw, colour, width = 1.25, alpha = 0.9, dash, step, since }, place) {
  const first = since ? x.findIndex((at) => at >= since) : 0; // the points before are of earlier attempts
  const last = first < 0 ? x.length : first;
  for (const [from, to, strength] of [[0, last, alpha * EARLIER], [last, x.length, alpha]]) {
    const [xs, ys, rough] = [x, y, raw].map((values) => values?.slice(from, to));
    if (raw) paintLine(context, xs, rough, place, { colour, width: 1, alpha: strength * 0.25 });
    paintLine(context, xs, ys, place, { colour, width, alpha: strength, dash, step });
  }
}

/** `log`: of positive values; `outliers`: without the 2 % at each end. */
function rangeOf(series, { log = false, outliers = false }) {
  const values = series.flat().filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!outliers || values.length < 10) return extent(values);
  const stride = Math.ceil(values.length / 20_000);
  const sample = sorted(values.filter((_, index) => index % stride === 0));
  return [quantile(sample, 0.02), quantile(sample, 0.98)];
}

export function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const [low, rest] = [Math.floor(at), at - Math.floor(at)];
  return sorted[low] + (rest ? (sorted[low + 1] - sorted[low]) * rest : 0);
}

/** Return what the pointer needs of a curve that is no run; `own`: facts, [[name, value]], that come last. */
export function hitOfCurve(title, colour, own = []) {
  return (facts) => ({ colour, tip: { title, colour, facts: [...facts, ...own] } });
}

/** Return a band over curves: quantiles {x, low, middle, high, outer}, or (mean) the mean with its standard deviation. */
export function bandOf(courses, { mean = false } = {}) {
  const x = rangeOf(courses.map((one) => one.x), {});
  const band = { x: [], low: [], middle: [], high: [], outer: mean ? null : [[], []] };
  if (!x) return band;
  const least = Math.max(1, Math.ceil(courses.length * LEAST_SHARE));
  for (let index = 0; index < GRID; index++) {
    const at = x[0] + ((x[1] - x[0]) * index) / (GRID - 1);
    const values = courses.map((course) => valueAt(course, at)).filter((value) => value !== null);
    if (values.length < least) continue;
    band.x.push(at);
    if (mean) addMean(band, values);
    else addQuantiles(band, sorted(values));
  }
  return band;
}

function addMean(band, values) {
  const mean = total(values) / values.length;
  const deviation = Math.sqrt(squares(values) / Math.max(1, values.length - 1));
  band.middle.push(mean);
  band.low.push(mean - deviation);
  band.high.push(mean + deviation);
}

function addQuantiles(band, sorted) {
  band.middle.push(quantile(sorted, 0.5));
  band.low.push(quantile(sorted, 0.25));
  band.high.push(quantile(sorted, 0.75));
  band.outer[0].push(quantile(sorted, 0.1));
  band.outer[1].push(quantile(sorted, 0.9));
}

function valueAt({ x, y }, at) {
  if (!x.length || at < x[0] || at > x.at(-1)) return null;
  let index = nearestIndex(x, at);
  if (x[index] > at && index > 0) index--;
  const [left, right] = [y[index], y[Math.min(index + 1, y.length - 1)]];
  if (left === null || right === null) return left ?? right;
  const span = x[Math.min(index + 1, x.length - 1)] - x[index];
  const value = span > 0 ? left + ((right - left) * (at - x[index])) / span : left;
  return Number.isFinite(value) ? value : null;
}

function nearest(courses, bands, place, left, top, look) {
  const lines = [...courses, ...bands.map((band) => ({ ...band, y: band.middle, hit: band.hit }))].filter(({ hit }) => hit);
  let [found, least] = [null, REACH];
  for (const course of lines) {
    const at = around(course.x, place, left);
    for (let index = at; index <= Math.min(at + 1, course.x.length - 1); index++) {
      if (course.y[index] === null) continue;
      const [x, y] = [place.x(course.x[index]), place.y(course.y[index])];
      const distance = Math.hypot((x - left) / 2, y - top);
      if (distance < least) [found, least] = [{ x, y, course, index }, distance];
    }
  }
  if (!found) return null;
  const { course, index, x, y } = found;
  const format = look.y.format ?? short;
  const facts = [[look.y.label, format((course.raw ?? course.y)[index])], [look.x.label, (look.x.format ?? short)(course.x[index])]];
  if (course.raw) facts.splice(1, 0, ["smoothed", format(course.y[index])]);
  return { x, y, ...course.hit(facts) };
}

function around(xs, place, left) {
  const index = nearestIndex(xs, place.unplace(left));
  return index > 0 && place.x(xs[index]) > left ? index - 1 : index;
}

/** Return `ys` smoothed as by W&B (a time-weighted exponential average), by a weight from 0 to below 1; gaps stay gaps. */
export function smoothed(xs, ys, weight) {
  if (!weight || xs.length < 2) return ys;
  const range = xs.at(-1) - xs[0] || 1;
  let [sum, share, last] = [0, 0, null];
  return ys.map((y, index) => {
    if (y === null || !Number.isFinite(y)) return y;
    const steps = last === null ? 1 : Math.max(((xs[index] - last) / range) * SPAN, 1e-9);
    const kept = weight ** steps;
    last = xs[index];
    sum = sum * kept + y * (1 - kept);
    share = share * kept + (1 - kept);
    return sum / share;
  });
}

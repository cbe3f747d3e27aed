/** Several curves in one plot: painting, and the one under the pointer. */

import { nearestIndex, paintLine } from "./marks.js";
import { short } from "./numbers.js";
import { plot } from "./plot.js";
import { smoothed } from "./smoothing.js";

const REACH = 24; // CSS pixels above and below a line
export const HEIGHT = 280;

/**
 * Draw curves into a host; returns the result of `plot`, or null if there is nothing to draw.
 *
 * courses: [{name, colour, width, x: [], y: [], pick}], x rising; look: {smoothing, log, x: label and {time}, y: label}.
 */
export function plotCourses(figure, host, courses, look) {
  const drawn = courses.map((course) => ({ ...course, y: smoothed(course.x, course.y, look.smoothing) }));
  const [x, y] = [rangeOf(drawn, "x", false), rangeOf(drawn, "y", look.log)];
  if (!x || !y) {
    host.replaceChildren();
    return null;
  }
  const alpha = drawn.length > 60 ? 0.6 : 0.9;
  return plot(figure, {
    host, height: look.height ?? HEIGHT, label: look.label,
    x: { low: x[0], high: x[1], label: look.x },
    y: { low: y[0], high: y[1], log: look.log, label: look.y },
    paint(context, place) {
      for (const { x: xs, y: ys, colour, width } of drawn) paintLine(context, xs, ys, place, { colour, width, alpha });
    },
    near: (place, left, top) => nearest(drawn, place, left, top, look),
  });
}

function rangeOf(courses, name, positive) {
  let [low, high] = [Infinity, -Infinity];
  for (const { [name]: values } of courses) {
    for (const value of values) {
      if (value === null || !Number.isFinite(value) || (positive && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

function nearest(courses, place, left, top, look) {
  let [found, least] = [null, REACH * place.ratio];
  for (const course of courses) {
    const at = around(course.x, place, left);
    for (let index = at; index <= Math.min(at + 1, course.x.length - 1); index++) {
      const [x, y] = [place.x(course.x[index]), place.y(course.y[index])];
      const distance = Math.hypot((x - left) / 2, y - top);
      if (course.y[index] !== null && distance < least) [found, least] = [{ x, y, course, index }, distance];
    }
  }
  if (!found) return null;
  const { course, index } = found;
  const value = `${look.y}: ${short(course.y[index])}`;
  return { ...found, lines: [course.name, value, `${look.x}: ${short(course.x[index])}`], pick: course.pick };
}

/** Return the index of the point at or before a position on the canvas. */
function around(xs, place, left) {
  const share = (left - place.x(xs[0])) / (place.x(xs.at(-1)) - place.x(xs[0]) || 1);
  const index = nearestIndex(xs, xs[0] + share * (xs.at(-1) - xs[0]));
  return index > 0 && place.x(xs[index]) > left ? index - 1 : index;
}

/** Runs as points in a plot, drawn and found under the pointer alike in all charts. */

import { nearestPoint, paintCrosses, paintPoints, paintRing } from "./marks.js";
import { hitOf, hoveredRow, isColoured, isFailed, runColour } from "./runs.js";
import { colours } from "./theme.js";

/** Return a spec's parts for points, {row, x, y} each; `facts(point)`: what comes first in the text beside the pointer. */
export function pointing(store, points, facts) {
  return {
    paintOver(context, place) {
      const hovered = points.find(({ row }) => row === hoveredRow(store));
      if (hovered) paintRing(context, hovered, place, runColour(store, hovered.row));
    },
    near(place, left, top) {
      const hit = nearestPoint(points, place, left, top);
      return hit && { ...hit, ...hitOf(store, hit.point.row, facts(hit.point)) };
    },
  };
}

/** Draw the points: hidden runs faint, failed ones as crosses, then `between`, then those with a colour. */
export function paintRuns(context, place, store, points, between = () => {}) {
  const known = colours();
  const shown = points.filter(({ row }) => store.shown[row]);
  const [failed, others] = [true, false].map((wanted) => shown.filter(({ row }) => isFailed(store.runs.state[row]) === wanted));
  paintPoints(context, points.filter(({ row }) => !store.shown[row]), place, known.line, 2.5);
  paintCrosses(context, failed, place, known.bad, 3);
  paintPoints(context, others.filter(({ row }) => !isColoured(store, row)), place, known.muted, 2.5, 0.6);
  between(known);
  for (const point of others.filter(({ row }) => isColoured(store, row))) {
    paintPoints(context, [point], place, runColour(store, point.row), 3.5);
    if (store.selected.has(store.runs.id[point.row])) paintRing(context, point, place, runColour(store, point.row));
  }
}

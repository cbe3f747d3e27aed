/** Points, lines and bands on a plot's canvas, and the one near the pointer. */

const REACH = 12; // CSS pixels
const MANY = 1500;
const HATCH = 5; // CSS pixels between the lines of a hatched box

/** Draw points as discs, or many as squares, which takes a third of the time. */
export function paintPoints(context, points, place, colour, radius, alpha = 1) {
  context.fillStyle = colour;
  context.globalAlpha = alpha;
  context.beginPath();
  const many = points.length > MANY;
  for (const { x, y } of points) {
    const [left, top] = [place.x(x), place.y(y)];
    if (many) {
      context.rect(left - radius / 2, top - radius / 2, radius, radius);
      continue;
    }
    context.moveTo(left + radius, top);
    context.arc(left, top, radius, 0, 2 * Math.PI);
  }
  context.fill();
  context.globalAlpha = 1;
}

export function paintRing(context, { x, y }, place, colour) {
  Object.assign(context, { strokeStyle: colour, lineWidth: 2 });
  circle(context, place.x(x), place.y(y), 6);
  context.stroke();
}

/** Begin a path with a circle. */
export function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}

/** Paint only inside of a box. */
export function clipped(context, box, work) {
  context.save();
  context.beginPath();
  context.rect(...box);
  context.clip();
  work();
  context.restore();
}

/** Paint lines across a box, so that it differs from others not by colour alone. */
export function hatch(context, box, colour) {
  const [left, top, width, height] = box;
  const lines = [];
  for (let at = Math.max(left, 0) - height; at < Math.min(left + width, context.canvas.width); at += HATCH) lines.push([at, top + height, at + height, top]);
  clipped(context, box, () => {
    Object.assign(context, { strokeStyle: colour, lineWidth: 1.25 });
    strokes(context, lines);
  });
}

/** Paint an area that is being chosen. */
export function paintArea(context, box, { accent }) {
  Object.assign(context, { fillStyle: accent, strokeStyle: accent, lineWidth: 1, globalAlpha: 0.25 });
  context.fillRect(...box);
  context.globalAlpha = 1;
  context.strokeRect(...box);
}

/** Draw a line; `step`: horizontal until the next point. Values that aren't finite are gaps, single ones dots. */
export function paintLine(context, xs, ys, place, { colour, width = 1.25, alpha = 1, step = false, dash = [] }) {
  Object.assign(context, { strokeStyle: colour, fillStyle: colour, globalAlpha: alpha, lineWidth: width, lineJoin: "round" });
  context.setLineDash(dash);
  context.beginPath();
  let [last, length, single] = [null, 0, null];
  const dots = [];
  for (let index = 0; index <= xs.length; index++) {
    const isThere = index < xs.length && ys[index] !== null;
    const [left, top] = isThere ? [place.x(xs[index]), place.y(ys[index])] : [NaN, NaN];
    if (!Number.isFinite(left) || !Number.isFinite(top)) {
      if (length === 1) dots.push(single);
      [last, length] = [null, 0];
      continue;
    }
    if (last === null) context.moveTo(left, top);
    else {
      if (step) context.lineTo(left, last);
      context.lineTo(left, top);
    }
    [last, length, single] = [top, length + 1, [left, top]];
  }
  context.stroke();
  context.setLineDash([]);
  for (const [left, top] of dots) {
    circle(context, left, top, width + 1.75);
    context.fill();
  }
  context.globalAlpha = 1;
}

export function paintBand(context, xs, lows, highs, place, colour, alpha = 0.18) {
  Object.assign(context, { fillStyle: colour, globalAlpha: alpha });
  context.beginPath();
  xs.forEach((x, index) => context.lineTo(place.x(x), place.y(lows[index])));
  for (let index = xs.length - 1; index >= 0; index--) context.lineTo(place.x(xs[index]), place.y(highs[index]));
  context.fill();
  context.globalAlpha = 1;
}

/** Return the point near a position on the canvas, {x, y, point} in pixels, or null. */
export function nearestPoint(points, place, left, top) {
  let [nearest, least] = [null, REACH];
  for (const point of points) {
    const [x, y] = [place.x(point.x), place.y(point.y)];
    const distance = Math.hypot(x - left, y - top);
    if (distance < least) [nearest, least] = [{ x, y, point }, distance];
  }
  return nearest;
}

export function nearestIndex(sorted, value) {
  let [low, high] = [0, sorted.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(sorted[low] - value) <= Math.abs(sorted[high] - value) ? low : high;
}

export function paintCrosses(context, points, place, colour, size) {
  Object.assign(context, { strokeStyle: colour, lineWidth: 1.5 });
  const at = points.map(({ x, y }) => [place.x(x), place.y(y)]);
  strokes(context, at.flatMap(([x, y]) => [[x - size, y - size, x + size, y + size], [x + size, y - size, x - size, y + size]]));
}

/** Draw straight lines, [fromX, fromY, toX, toY] each. */
export function strokes(context, lines) {
  context.beginPath();
  for (const [fromX, fromY, toX, toY] of lines) {
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
  }
  context.stroke();
}

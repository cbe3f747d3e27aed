/** Points and lines on a plot's canvas, and the one near the pointer. */

const REACH = 12; // CSS pixels
const MANY = 1500;

/** Draw points of one colour as discs, or many as small squares, which takes a third of the time. */
export function paintPoints(context, points, place, colour, radius, alpha = 1) {
  context.fillStyle = colour;
  context.globalAlpha = alpha;
  context.beginPath();
  const size = radius * place.ratio;
  const many = points.length > MANY;
  for (const { x, y } of points) {
    const [left, top] = [place.x(x), place.y(y)];
    if (many) {
      context.rect(left - size / 2, top - size / 2, size, size);
      continue;
    }
    context.moveTo(left + size, top);
    context.arc(left, top, size, 0, 2 * Math.PI);
  }
  context.fill();
  context.globalAlpha = 1;
}

/** Draw a line through values; `step`: horizontal until the next point. Values that are not finite are gaps. */
export function paintLine(context, xs, ys, place, { colour, width = 1.25, alpha = 1, step = false }) {
  context.strokeStyle = colour;
  context.globalAlpha = alpha;
  context.lineWidth = width * place.ratio;
  context.lineJoin = "round";
  context.beginPath();
  let last = null;
  for (let index = 0; index < xs.length; index++) {
    const [left, top] = [place.x(xs[index]), place.y(ys[index])];
    if (ys[index] === null || !Number.isFinite(left) || !Number.isFinite(top)) {
      last = null;
      continue;
    }
    if (last === null) context.moveTo(left, top);
    else {
      if (step) context.lineTo(left, last);
      context.lineTo(left, top);
    }
    last = top;
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** Return the point nearest to a position on the canvas, {x, y, point} in its pixels; null if none is near. */
export function nearestPoint(points, place, left, top) {
  let [nearest, least] = [null, REACH * place.ratio];
  for (const point of points) {
    const [x, y] = [place.x(point.x), place.y(point.y)];
    const distance = Math.hypot(x - left, y - top);
    if (distance < least) [nearest, least] = [{ x, y, point }, distance];
  }
  return nearest;
}

/** Return the index of the number nearest to a value, in sorted numbers. */
export function nearestIndex(sorted, value) {
  let [low, high] = [0, sorted.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(sorted[low] - value) <= Math.abs(sorted[high] - value) ? low : high;
}

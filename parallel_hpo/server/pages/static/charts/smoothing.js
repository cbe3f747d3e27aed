/** Smoothing of a history: W&B's time-weighted exponential average, which accounts for gaps between points. */

const SPAN = 1000; // steps of the average over the whole range, for any number of points

/** Return `ys` smoothed by a weight from 0 (unchanged) to below 1; gaps stay gaps. */
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

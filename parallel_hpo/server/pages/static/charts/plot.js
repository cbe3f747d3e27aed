/** Axes, zoom and pointer by uPlot; charts paint their own content. Dragging zooms, a double click resets. */

import uPlot from "../vendor/uplot.js";

import { logSteps, short } from "./numbers.js";
import { colours } from "./theme.js";

const FONT = "12px system-ui, sans-serif";
const MARGIN = 0.04; // fraction of the values' range, so that no point lies on the frame
const [BELOW, BESIDE] = [40, 64]; // size of an axis, in CSS pixels
const BELOW_TIME = 54; // two lines: time, and the date where it changes
const MOST_SIDEWAYS = 240;
const MOST_LOG_TICKS = 6;
const POINTERS = new WeakMap(); // by host: last event of the pointer over it
const ZOOMS = new WeakMap(); // by host: zoom of a replaced plot, and the meaning of its axes

/**
 * Draw a plot into a figure's host; it replaces an earlier one.
 *
 * x, y: {low, high, log, time, label, names, listed, reversed}; names: texts of the positions 0, 1, 2, …
 * paint(context, place): draws on the canvas; place.x(value), place.y(value) are its pixels, place.ratio one of CSS.
 * near(place, left, top): {x, y, lines, pick} of the nearest item, or null; left and top in the canvas's pixels.
 */
export function plot(figure, { host = figure.host, label, height, x, y, paint, near }) {
  host.replaceChildren();
  const made = new uPlot(options(host, height, x, y, paint), [[x.low, x.high], [y.low, y.high]], host);
  const canvas = made.ctx.canvas;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const meaning = JSON.stringify([x.label, x.log, y.label, y.log]);
  zoomAgain(made, ZOOMS.get(host), meaning);
  const unlisten = near ? follow(figure, made, near, host) : () => {};
  const observer = new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== made.width) made.setSize({ width: host.clientWidth, height });
  });
  observer.observe(host);
  return {
    repaint: () => made.redraw(false),
    destroy() {
      observer.disconnect();
      unlisten();
      ZOOMS.set(host, { meaning, scales: zoomOf(made, { x, y }) });
      made.destroy();
    },
  };
}

/** Return the zoomed ranges, null for axes without zoom. */
function zoomOf(made, { x, y }) {
  const ranges = Object.fromEntries(["x", "y"].map((name) => [name, [made.scales[name].min, made.scales[name].max]]));
  const whole = { x: roomFor(x), y: roomFor(y) };
  const same = ["x", "y"].every((name) => ranges[name].every((bound, index) => bound === whole[name][index]));
  return same ? null : ranges;
}

function zoomAgain(made, before, meaning) {
  if (before?.meaning !== meaning || !before.scales) return;
  made.batch(() => {
    for (const [name, [min, max]] of Object.entries(before.scales)) made.setScale(name, { min, max });
  });
}

function options(host, height, x, y, paint) {
  return {
    width: Math.max(host.clientWidth, 200),
    height,
    scales: { x: scale(x), y: scale(y) },
    series: [{}, { paths: () => null, points: { show: false } }],
    axes: [axis(x, BELOW), axis(y, BESIDE)],
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: true, y: true, uni: 24 } },
    hooks: { draw: [(made) => clipped(made, () => paint(made.ctx, placeIn(made)))] },
  };
}

function scale(axis) {
  const { low, high, log, time, reversed } = axis;
  const whole = (made, min, max) => (min === low && max === high ? roomFor(axis) : [min, max]);
  return { time: Boolean(time), distr: log ? 3 : 1, dir: reversed ? -1 : 1, auto: (made, reset) => reset, range: whole };
}

function roomFor({ low, high, log }) {
  return log ? [low / 1.15, high * 1.15] : padded(low, high);
}

/** Widen a range a little, also an empty one. */
function padded(low, high) {
  const room = (high - low) * MARGIN || Math.abs(low) * MARGIN || 1;
  return [low - room, high + room];
}

function axis({ label, names, time, log, listed }, size) {
  const known = colours();
  return {
    stroke: known.text, font: FONT, labelFont: FONT, size: names ? sideways(names, size) : time ? BELOW_TIME : size, label, labelSize: 18,
    grid: { stroke: known.line, width: 1 }, ticks: { stroke: known.line, width: 1 },
    ...ticksOf({ names, time, log, listed }),
  };
}

/** Return uPlot's options for an axis's ticks; a time axis uses uPlot's own. */
function ticksOf({ names, time, log, listed }) {
  if (names) {
    return { splits: () => names.map((_, index) => index), values: (made, places) => places.map((place) => names[place] ?? "") };
  }
  const values = (made, splits) => splits.map((value) => (value === null ? "" : short(value)));
  // uPlot's own ticks of a log axis never end if the range is small
  if (listed) return { values, splits: () => listed, filter: (made, splits) => splits };
  if (log) return { values, splits: (made, index, low, high) => logSteps(low, high, MOST_LOG_TICKS), filter: (made, splits) => splits };
  return time ? {} : { values };
}

/** Return the size of names beside an axis; below one it is constant. */
function sideways(names, size) {
  if (size === BELOW) return size;
  const context = document.createElement("canvas").getContext("2d");
  context.font = FONT;
  const widest = Math.max(...names.map((name) => context.measureText(name).width));
  return Math.max(size, Math.min(widest + 20, MOST_SIDEWAYS, window.innerWidth / 3));
}

function placeIn(made) {
  return {
    x: (value) => made.valToPos(value, "x", true),
    y: (value) => made.valToPos(value, "y", true),
    ratio: uPlot.pxRatio,
    box: made.bbox,
  };
}

function clipped(made, work) {
  const { left, top, width, height } = made.bbox;
  made.ctx.save();
  made.ctx.beginPath();
  made.ctx.rect(left, top, width, height);
  made.ctx.clip();
  work();
  made.ctx.restore();
}

/** Show the item near the pointer, also after a redraw without a move, and select it on a click. */
function follow(figure, made, near, host) {
  const dot = made.over.appendChild(document.createElement("div"));
  dot.className = "chart-dot";
  dot.hidden = true;
  const found = (event) => {
    const place = placeIn(made);
    const { left, top } = made.bbox;
    return near(place, left + event.offsetX * place.ratio, top + event.offsetY * place.ratio);
  };
  const moved = (event) => {
    POINTERS.set(host, event);
    const hit = event.buttons ? null : found(event);
    dot.hidden = !hit;
    if (!hit) return figure.unpoint();
    dot.style.left = `${(hit.x - made.bbox.left) / uPlot.pxRatio}px`;
    dot.style.top = `${(hit.y - made.bbox.top) / uPlot.pxRatio}px`;
    return figure.point(event.clientX, event.clientY, hit.lines);
  };
  const left = () => {
    dot.hidden = true;
    figure.unpoint();
  };
  let pressed = [0, 0];
  made.over.addEventListener("mousedown", (event) => (pressed = [event.clientX, event.clientY]));
  made.over.addEventListener("mousemove", moved);
  made.over.addEventListener("mouseleave", () => {
    POINTERS.delete(host);
    left();
  });
  queueMicrotask(() => POINTERS.has(host) && moved(POINTERS.get(host))); // uPlot knows its size by then
  made.over.addEventListener("click", (event) => {
    const still = Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < 4;
    if (still) found(event)?.pick?.();
  });
  return left;
}

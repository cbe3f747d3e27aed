/** Draws the lines and axes of the parallel coordinates on a canvas. */

import { UNSET } from "./axes.js";
import { runColour } from "./runs.js";
import { ramp } from "./theme.js";

export const TOP = 44;
export const HEIGHT = 380;
const BOTTOM = 28;
const SIDE = 70;
const LEAST_GAP = 92; // minimum CSS pixels between two axes; the picture scrolls if it is too wide
const SHADES = 16;

/** Return the layout for a width: {width, x(index), y(place), place(y)}. */
export function layout(available, axes) {
  const gaps = Math.max(1, axes.length - 1);
  const width = Math.max(available, SIDE * 2 + gaps * LEAST_GAP);
  const axisTop = TOP + 8;
  const axisHeight = (HEIGHT - axisTop - BOTTOM) / (1 - UNSET);
  return {
    width,
    gap: (width - SIDE * 2) / gaps,
    x: (index) => SIDE + (index * (width - SIDE * 2)) / gaps,
    y: (place) => axisTop + (1 - place) * axisHeight,
    place: (y) => 1 - (y - axisTop) / axisHeight,
  };
}

/** Draw the lines of all rows: hidden ones faint, then the shown ones, the best last and strongest. */
export function paintLines(context, { rows, places, at, shown, shade, failed }, known) {
  const strokes = ramp(known.line, known.accent, SHADES + 4).slice(4);
  const groups = new Map();
  for (const row of rows) {
    const group = !shown[row] ? -1 : failed[row] ? -0.5 : shade[row] === null ? 0 : Math.floor(shade[row] * (SHADES - 1e-6));
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(row);
  }
  for (const [group, members] of [...groups].sort(([one], [other]) => one - other)) {
    context.strokeStyle = group === -1 ? known.line : group === -0.5 ? known.bad : strokes[group];
    context.globalAlpha = group === -1 ? 0.35 : group < 0 ? 0.8 : rows.length > 1000 ? 0.5 : 0.85;
    context.setLineDash(group === -0.5 ? [5, 4] : []);
    strokeRows(context, members, places, at);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** Draw highlighted rows, thick and each in its own colour. */
export function paintChosen(context, rows, { places, at, store }) {
  context.lineWidth = 2.5;
  for (const row of rows) {
    context.strokeStyle = runColour(store, row);
    strokeRows(context, [row], places, at);
  }
  context.lineWidth = 1;
}

function strokeRows(context, rows, places, at) {
  context.beginPath();
  for (const row of rows) {
    for (let index = 0; index < places.length; index++) {
      const [x, y] = [at.x(index), at.y(places[index][row])];
      if (index) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
  }
  context.stroke();
}

/** Draw the axes with names, ticks and the position of runs without a value. */
export function paintAxes(context, axes, at, known, unsetWords) {
  context.font = "12px system-ui, sans-serif";
  context.lineJoin = "round";
  axes.forEach((axis, index) => {
    const x = at.x(index);
    context.strokeStyle = known.muted;
    context.beginPath();
    context.moveTo(x, at.y(0));
    context.lineTo(x, at.y(1));
    context.moveTo(x - 5, at.y(UNSET));
    context.lineTo(x + 5, at.y(UNSET));
    context.stroke();
    context.textAlign = "center";
    write(context, fitted(context, axis.label, at.gap - 10), x, TOP - 26, known.text, known.surface);
    write(context, axis.log ? "log" : "", x, TOP - 11, known.muted, known.surface);
    write(context, unsetWords[index], x, at.y(UNSET) + 15, known.muted, known.surface);
    context.textAlign = "right";
    for (const { at: place, text } of axis.ticks) {
      context.fillStyle = known.muted;
      context.fillRect(x - 3, at.y(place), 6, 1);
      write(context, fitted(context, text, Math.min(at.gap - 14, SIDE - 8)), x - 6, at.y(place) + 4, known.text, known.surface);
    }
  });
}

/** Draw the selected ranges of an axis. */
export function paintBrush(context, x, [low, high], at, known) {
  context.fillStyle = known.accent;
  context.globalAlpha = 0.3;
  context.fillRect(x - 9, at.y(high), 18, at.y(low) - at.y(high));
  context.globalAlpha = 1;
  context.strokeStyle = known.accent;
  context.strokeRect(x - 9, at.y(high), 18, at.y(low) - at.y(high));
}

/** Draw a text with an outline in the background colour, readable over lines. */
function write(context, text, x, y, colour, ground) {
  context.strokeStyle = ground;
  context.lineWidth = 3;
  context.strokeText(text, x, y);
  context.lineWidth = 1;
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** Shorten a text to a width in pixels; the end of a dotted name is kept. */
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const dotted = text.includes(".") ? `…${text.slice(text.lastIndexOf(".") + 1)}` : text;
  if (context.measureText(dotted).width <= width) return dotted;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}

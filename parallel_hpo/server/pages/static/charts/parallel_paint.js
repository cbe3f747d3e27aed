import { UNSET } from "./axes.js";
import { LINE, withRoom } from "./canvas.js";
import { paintArea, strokes } from "./marks.js";
import { isColoured, runColour } from "./runs.js";
import { qualities } from "./theme.js";

const SIDE = 70;
const MOST_NAME = 130; // CSS pixels; longer names of values are cut in the middle
const BOTTOM = 28;
const LEAST_GAP = 92; // minimum CSS pixels between two axes; the picture scrolls if it is too wide
const SHADES = 16;
const BETWEEN_TICKS = 28;
const NAME_LINES = 2;

/** Return {width, height, left, gap, x(index), y(place), place(y)}. Names of values stand left of their axis. */
export function layout(texts, available, height, axes) {
  const gaps = Math.max(1, axes.length - 1);
  const [first, ...others] = axes.map((axis) => Math.min(MOST_NAME, Math.max(0, ...(axis.texts ?? []).map((text) => texts.width(text)))) + 16);
  const [left, least] = [Math.max(SIDE, first), Math.max(LEAST_GAP, ...others)];
  const width = Math.max(available, left + SIDE + gaps * least);
  const axisTop = NAME_LINES * LINE + 8;
  const axisHeight = (height - axisTop - BOTTOM) / (1 - UNSET);
  return {
    width, height, left, gap: (width - left - SIDE) / gaps, axisTop,
    x: (index) => left + (index * (width - left - SIDE)) / gaps,
    y: (place) => axisTop + (1 - place) * axisHeight,
    place: (y) => 1 - (y - axisTop) / axisHeight,
  };
}

/** Hidden rows are faint, and the best come last. */
export function paintLines(context, { rows, places, at, shown, shade, failed }, known) {
  const strokes = qualities(SHADES);
  const groupOf = (row) => (!shown[row] ? -1 : failed[row] ? -0.5 : shade[row] === null ? -0.25 : Math.floor(shade[row] * (SHADES - 1e-6)));
  const colourOf = { "-1": known.line, "-0.5": known.bad, "-0.25": known.muted };
  for (const [group, members] of [...Map.groupBy(rows, groupOf)].sort(([one], [other]) => one - other)) {
    context.strokeStyle = colourOf[group] ?? strokes[group];
    context.globalAlpha = group === -1 ? 0.35 : group < 0 ? 0.7 : rows.length > 1000 ? 0.5 : 0.85;
    context.setLineDash(group === -0.5 ? [5, 4] : []);
    strokeRows(context, members, places, at);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

export function paintChosen(context, rows, { places, at, store }, known) {
  for (const row of rows) {
    Object.assign(context, { strokeStyle: known.surface, lineWidth: 5 });
    strokeRows(context, [row], places, at);
    Object.assign(context, { strokeStyle: isColoured(store, row) ? runColour(store, row) : known.text, lineWidth: 2.5 });
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

export function paintAxes(context, texts, axes, at, known, unsetWords) {
  axes.forEach((axis, index) => {
    const x = at.x(index);
    Object.assign(context, { strokeStyle: known.muted, lineWidth: 1 });
    strokes(context, [[x, at.y(0), x, at.y(1)], [x - 5, at.y(UNSET), x + 5, at.y(UNSET)]]);
    paintName(texts, axis, x, at, known);
    texts.write(unsetWords[index], x, at.y(UNSET) + 15, { align: "center", colour: known.muted, halo: known.surface });
    paintTicks(context, texts, axis, index ? at.gap - 14 : at.left - 8, x, at, known);
  });
}

function paintName(texts, axis, x, at, known) {
  const lines = texts.wrapped(axis.log ? `${axis.label} (log)` : axis.label, Math.min(at.gap - 8, SIDE * 2 - 4), NAME_LINES);
  const top = at.axisTop - 8 - LINE * lines.length;
  lines.forEach((line, place) => texts.write(line, x, top + LINE * (place + 0.5), { align: "center", colour: known.text, whole: axis.label }));
}

function paintTicks(context, texts, axis, room, x, at, known) {
  const most = Math.max(2, Math.floor((at.y(0) - at.y(1)) / BETWEEN_TICKS));
  const scale = axis.scale();
  const ticks = scale.ticks(most).map(({ value, text }) => ({ text, at: at.y(scale.place(value)), size: LINE - 2 }));
  for (const { text, at: y } of withRoom(ticks, 0)) {
    context.fillStyle = known.muted;
    context.fillRect(x - 3, y, 6, 1);
    texts.write(texts.fitted(text, room), x - 6, y, { align: "right", colour: known.text, halo: known.surface, whole: text });
  }
}

export function paintBrush(context, x, [low, high], at, known) {
  paintArea(context, [x - 9, at.y(high), 18, at.y(low) - at.y(high)], known);
}

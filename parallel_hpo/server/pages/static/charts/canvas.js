/** Canvases in CSS pixels, and text on them that never overlaps or ends at an edge. */

import { element } from "../format.js";
import { fontOf } from "./theme.js";

export const LINE = 16; // height of a line of text
const SIZE = 12;

export function layer(label) {
  return element("canvas", label === null ? { "aria-hidden": "true" } : { role: "img", "aria-label": label });
}

export function resize(made, width, height) {
  const ratio = window.devicePixelRatio || 1;
  made.width = Math.round(width * ratio);
  made.height = Math.round(height * ratio);
  made.style.width = `${width}px`;
  made.style.height = `${height}px`;
  const context = made.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

/** The texts on a canvas, whose `texts` are their boxes, [{text, whole, left, top, right, bottom}]. */
export class Texts {
  constructor(context) {
    this.context = context;
    this.boxes = context.canvas.texts = [];
    this.font = fontOf(SIZE);
    context.font = this.font;
  }

  width(text) {
    this.context.font = this.font;
    return this.context.measureText(text).width;
  }

  /** Cut a text in its middle. */
  fitted(text, width) {
    if (this.width(text) <= width) return text;
    let [low, high] = [0, text.length];
    const cut = (kept) => `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.width(cut(middle)) <= width) low = middle;
      else high = middle - 1;
    }
    return cut(low);
  }

  /** Break a text into lines after spaces and signs, where possible. */
  wrapped(text, width, most = 2) {
    const lines = [];
    let rest = text;
    while (lines.length < most - 1 && this.width(rest) > width) {
      let end = rest.length;
      while (end > 1 && this.width(rest.slice(0, end)) > width) end--;
      const sign = rest.slice(0, end).search(/[ ./_:,-][^ ./_:,-]*$/);
      const at = sign > 0 ? sign + 1 : end;
      lines.push(rest.slice(0, at).trimEnd());
      rest = rest.slice(at);
    }
    return [...lines, this.fitted(rest, width)];
  }

  /** Write a text; `halo`: a colour around it, for texts over lines; `up`: from the bottom to the top. */
  write(text, x, y, { align = "left", baseline = "middle", colour, halo = null, up = false, whole = text, weight = 400 }) {
    if (!text) return;
    const { context } = this;
    Object.assign(context, { font: weight === 400 ? this.font : fontOf(SIZE, weight), textAlign: align, textBaseline: baseline });
    context.save();
    context.translate(x, y);
    if (up) context.rotate(-Math.PI / 2);
    if (halo) {
      Object.assign(context, { strokeStyle: halo, lineWidth: 3, lineJoin: "round" });
      context.strokeText(text, 0, 0);
    }
    context.fillStyle = colour;
    context.fillText(text, 0, 0);
    const { actualBoundingBoxLeft: left, actualBoundingBoxRight: right, actualBoundingBoxAscent: above, actualBoundingBoxDescent: below } =
      context.measureText(text);
    context.restore();
    const [across, down] = up ? [[-above, below], [-right, left]] : [[-left, right], [-above, below]];
    this.boxes.push({ text, whole, left: x + across[0], right: x + across[1], top: y + down[0], bottom: y + down[1] });
  }
}

/** Return those of the ticks, {at, size} each in pixels, that have room beside the last one that is kept. */
export function withRoom(ticks, gap) {
  const order = [...ticks].sort((one, other) => one.at - other.at);
  const overlaps = (every) => {
    const kept = order.filter((_, index) => index % every === 0);
    return kept.some((tick, index) => index > 0 && tick.at - tick.size / 2 < kept[index - 1].at + kept[index - 1].size / 2 + gap);
  };
  let every = 1;
  while (every < order.length && overlaps(every)) every++;
  return order.filter((_, index) => index % every === 0);
}

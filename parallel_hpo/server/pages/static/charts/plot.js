/** A plot's axes, zoom and pointer; charts paint what is in it. Dragging zooms, a double click resets. */

import { LINE, Texts, layer, resize, withRoom } from "./canvas.js";
import { listen } from "./elements.js";
import { circle, clipped, paintArea, strokes } from "./marks.js";
import { scaleOf } from "./scales.js";
import { colours } from "./theme.js";

const MARGIN = 0.04; // fraction of the values' range, so that no point lies on the frame
const GAP = 10; // CSS pixels between texts, and around them
const LEAST_DRAG = 5;
const ONE_WAY = 24; // a drag that is narrower than this zooms one axis only
const MOST_NAME = 120; // longest name that stands upright below an axis
const DOT = 5;

/**
 * A plot in an element: draw(spec) draws it (null: empty), repaint() its inside only, repaintOver() what is highlighted.
 *
 * spec: {label, x, y, paint(context, place), paintOver(context, place), near(place, left, top), height}
 * x, y: {low, high, kind, label, names, listed, whole, fixed, reversed}; see scaleOf. fixed: without a margin.
 * place.x(value), place.y(value): pixels; near: {x, y, id, tip, pick} of the nearest item, or null.
 */
export class Plot {
  constructor(chart, host = chart.host) {
    Object.assign(this, { chart, host, spec: null, zoom: null, drag: null, hit: null });
    host.classList.add("chart-plot");
    [this.base, this.over] = [layer(""), layer(null)];
    this.over.className = "chart-over";
    host.replaceChildren(this.base, this.over);
    new ResizeObserver(() => this.spec && this.sized() && this.draw(this.spec)).observe(host);
    this.followPointer();
  }

  draw(spec) {
    if (!spec) return this.clear();
    const meaning = JSON.stringify([spec.x.label, spec.x.kind, spec.y.label, spec.y.kind]);
    if (this.meaning !== meaning) this.zoom = null;
    Object.assign(this, { spec, meaning, width: this.host.clientWidth, height: this.host.clientHeight });
    this.base.setAttribute("aria-label", spec.label);
    this.repaint();
    return this.hoverAgain();
  }

  clear() {
    this.spec = null;
    for (const one of [this.base, this.over]) resize(one, 0, 0);
    this.base.texts = [];
  }

  repaint() {
    if (!this.spec || !this.width) return;
    const { x, y, paint } = this.spec;
    const context = resize(this.base, this.width, this.spec.height ?? this.height);
    this.scales = { x: scaleOf({ ...x, ...this.range("x") }), y: scaleOf({ ...y, ...this.range("y") }) };
    const texts = new Texts(context);
    this.box = layout(texts, this.spec, this.scales, this.width, this.spec.height ?? this.height);
    paintAxes(context, texts, this.spec, this.scales, this.box);
    clipped(context, this.inside(), () => paint(context, this.place()));
    this.repaintOver();
  }

  repaintOver() {
    if (!this.spec || !this.width) return;
    const context = resize(this.over, this.width, this.spec.height ?? this.height);
    const known = colours();
    clipped(context, this.inside(), () => this.spec.paintOver?.(context, this.place()));
    if (this.hit) paintDot(context, this.hit, known);
    if (!this.drag?.area) return;
    const { x, y } = this.drag.area;
    paintArea(context, [x[0], y[0], x[1] - x[0], y[1] - y[0]], known);
  }

  inside() {
    const { left, top, width, height } = this.box;
    return [left - 1, top - DOT, width + DOT, height + DOT * 2];
  }

  range(name) {
    if (this.zoom?.[name]) return this.zoom[name];
    const { low, high, kind, fixed } = this.spec[name];
    if (kind === "log") return fixed ? { low, high } : { low: low / 1.15, high: high * 1.15 };
    const room = fixed ? 0 : (high - low) * MARGIN || Math.abs(low) * MARGIN || 1;
    return { low: low - room, high: high + room };
  }

  place() {
    const { x, y } = this.scales;
    const { left, top, width, height } = this.box;
    const down = this.spec.y.reversed ? (at) => at : (at) => 1 - at;
    return {
      x: (value) => left + x.place(value) * width, y: (value) => top + down(y.place(value)) * height, box: this.box,
      low: x.low, high: x.high, unplace: (pixels) => x.unplace((pixels - left) / width),
    };
  }

  sized() {
    const { clientWidth, clientHeight } = this.host;
    return clientWidth > 0 && (clientWidth !== this.width || clientHeight !== this.height);
  }

  followPointer() {
    listen(this.over, {
      pointerdown: (event) => this.pressed(event),
      pointermove: (event) => (this.drag ? this.dragged(event) : this.hovered(event)),
      pointerup: (event) => this.released(event),
      pointercancel: () => this.stopDrag(),
      pointerleave: () => this.left(),
      dblclick: () => this.zoomTo(null),
    });
  }

  pressed(event) {
    if (event.button || !this.spec) return;
    this.drag = { from: [event.offsetX, event.offsetY], area: null };
    if (event.pointerType === "mouse") this.over.setPointerCapture(event.pointerId);
  }

  dragged({ offsetX, offsetY, pointerType }) {
    const [x, y] = this.drag.from;
    if (pointerType !== "mouse" || Math.hypot(offsetX - x, offsetY - y) < LEAST_DRAG) return;
    const { left, top, width, height } = this.box;
    const within = (value, least, size) => Math.min(least + size, Math.max(least, value));
    const ends = { x: [x, within(offsetX, left, width)], y: [y, within(offsetY, top, height)] };
    const [wide, high] = [Math.abs(offsetX - x) >= ONE_WAY, Math.abs(offsetY - y) >= ONE_WAY];
    if (!high || (wide && this.spec.y.kind === "names")) ends.y = [top, top + height];
    else if (!wide) ends.x = [left, left + width];
    this.drag.area = { x: ends.x.sort((a, b) => a - b), y: ends.y.sort((a, b) => a - b) };
    this.unhover();
    this.repaintOver();
  }

  released(event) {
    const { area } = this.drag ?? {};
    this.stopDrag();
    if (area) return this.zoomTo(area);
    return this.chart.pick(event, this.found(event));
  }

  stopDrag() {
    this.drag = null;
    this.repaintOver();
  }

  zoomTo(area) {
    if (!this.spec) return;
    const ranges = area && {
      x: this.rangeOf(area.x, "x", this.box.left, this.box.width, false),
      y: this.rangeOf(area.y, "y", this.box.top, this.box.height, !this.spec.y.reversed),
    };
    this.zoom = ranges && { x: ranges.x ?? this.zoom?.x, y: ranges.y ?? this.zoom?.y };
    this.repaint();
  }

  rangeOf([low, high], name, start, size, upwards) {
    if (high - low > size - 2) return null;
    const places = [low, high].map((at) => (upwards ? 1 - (at - start) / size : (at - start) / size)).sort((a, b) => a - b);
    const [from, to] = places.map((at) => this.scales[name].unplace(at));
    return { low: from, high: to };
  }

  found({ offsetX, offsetY }) {
    return this.spec?.near?.(this.place(), offsetX, offsetY) ?? null;
  }

  hovered(event) {
    if (!this.spec) return;
    const hit = this.found(event);
    const moved = hit?.x !== this.hit?.x || hit?.y !== this.hit?.y;
    this.hit = hit;
    this.pointer = { clientX: event.clientX, clientY: event.clientY, offsetX: event.offsetX, offsetY: event.offsetY };
    if (moved) this.repaintOver();
    this.chart.hover(this.over, event, hit);
  }

  /** Look again for what is under the pointer, after a redraw. */
  hoverAgain() {
    if (this.pointer && !this.drag) this.hovered(this.pointer);
  }

  unhover() {
    this.hit = null;
    this.chart.hover(this.over, {}, null);
  }

  left() {
    this.pointer = null;
    this.unhover();
    this.repaintOver();
  }
}

/** Return the area inside the axes, with the texts around it. */
function layout(texts, { x, y }, scales, width, height) {
  const yTitle = y.label ? texts.wrapped(y.label, width - GAP) : [];
  const top = yTitle.length * LINE + GAP;
  const xTitle = x.label ? texts.wrapped(withUnit(x.label, scales.x), width - GAP) : [];
  const roughly = height - top - LINE * (1 + xTitle.length) - GAP;
  const marked = scales.y.ticks(Math.max(2, Math.floor(roughly / 34))).map((tick) => ({ ...tick, size: LINE - 2, at: (1 - scales.y.place(tick.value)) * roughly }));
  const yTicks = y.kind === "names" ? withRoom(marked, 0) : marked;
  const room = width * (y.kind === "names" ? 0.4 : 0.5);
  const left = Math.ceil(Math.max(...yTicks.map(({ text }) => Math.min(texts.width(text), room)), 12)) + GAP;
  const { ticks: xTicks, up, size, right } = below(texts, x, scales.x, width - left, Math.min(MOST_NAME, height * 0.35));
  const bottom = size + xTitle.length * LINE + 6;
  const box = { left, top, width: Math.max(20, width - left - right), height: Math.max(20, height - top - bottom) };
  return { ...box, room: left - GAP, yTitle, xTitle, yTicks, xTicks, up, size, whole: { width, height } };
}

function withUnit(label, { unit }) {
  return unit ? `${label} (${unit})` : label;
}

/** As many ticks as have room; names stand upright if they are too wide. */
function below(texts, axis, scale, width, most) {
  if (axis.kind === "names") return namesBelow(texts, scale, width, most);
  for (let count = Math.max(2, Math.floor(width / 56)); count > 0; count--) {
    const ticks = scale.ticks(count).map((tick) => ({ ...tick, size: texts.width(tick.text) }));
    const last = ticks.at(-1);
    const right = last ? Math.max(GAP, last.size / 2 - (1 - scale.place(last.value)) * width + 2) : GAP;
    const placed = ticks.map((tick) => ({ ...tick, at: scale.place(tick.value) * (width - right) }));
    if (count === 1 || withRoom(placed, GAP).length === placed.length) return { ticks: withRoom(placed, GAP), up: false, size: LINE + 4, right };
  }
  return undefined;
}

function namesBelow(texts, scale, width, most) {
  const ticks = scale.ticks(Infinity).map((tick) => ({ ...tick, size: texts.width(tick.text), at: scale.place(tick.value) * (width - GAP) }));
  const slot = ticks.length > 1 ? ticks[1].at - ticks[0].at : width;
  const widest = Math.max(...ticks.map(({ size }) => size), 0);
  if (widest + 6 <= slot) return { ticks, up: false, size: LINE + 4, right: GAP };
  const upright = withRoom(ticks.map((tick) => ({ ...tick, size: LINE - 2 })), 0);
  return { ticks: upright, up: true, size: Math.min(widest, most) + 10, right: GAP };
}

function paintAxes(context, texts, { x, y }, scales, box) {
  const known = colours();
  const { left, top, width, height, whole } = box;
  const bottom = top + height;
  box.yTitle.forEach((line, index) => texts.write(line, 2, LINE * (index + 0.5), { colour: known.muted, whole: y.label }));
  context.lineWidth = 1;
  for (const { value, text } of box.yTicks) {
    const place = scales.y.place(value);
    const at = top + (y.reversed ? place : 1 - place) * height;
    if (y.kind !== "names") rule(context, known.line, left, at, left + width, at, 0.6);
    texts.write(texts.fitted(text, box.room), left - 6, at, { align: "right", colour: known.text, whole: text });
  }
  for (const { value, text } of box.xTicks) {
    const at = left + scales.x.place(value) * width;
    rule(context, known.line, at, bottom, at, bottom + 4);
    if (x.kind !== "names") rule(context, known.line, at, top, at, bottom, 0.35);
    if (box.up) texts.write(texts.fitted(text, box.size - 10), at, bottom + 7, { align: "right", up: true, colour: known.text, whole: text });
    else texts.write(text, inside(at, texts.width(text), whole.width), bottom + 12, { align: "center", colour: known.text });
  }
  rule(context, known.line, left, bottom, left + width, bottom);
  box.xTitle.forEach((line, index) => {
    const at = inside(left + width / 2, texts.width(line), whole.width);
    texts.write(line, at, bottom + box.size + LINE * (index + 0.5) + 2, { align: "center", colour: known.muted, whole: x.label });
  });
}

function inside(middle, width, whole) {
  return Math.max(width / 2 + 1, Math.min(whole - width / 2 - 1, middle));
}

function rule(context, colour, fromX, fromY, toX, toY, alpha = 1) {
  context.strokeStyle = colour;
  context.globalAlpha = alpha;
  strokes(context, [[fromX, fromY, toX, toY].map((at) => Math.round(at) + 0.5)]);
  context.globalAlpha = 1;
}

function paintDot(context, { x, y, colour }, known) {
  circle(context, x, y, DOT);
  Object.assign(context, { fillStyle: colour ?? known.accent, strokeStyle: known.surface, lineWidth: 2 });
  context.fill();
  context.stroke();
}

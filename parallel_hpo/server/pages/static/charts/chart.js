/** What every chart has: a frame in a figure of the page, options, a tooltip, and downloads. */

import { element, runLink, swatch } from "../format.js";
import { LINE, layer, resize } from "./canvas.js";
import { controlOf, listen, oncePerFrame } from "./elements.js";
import { hatch } from "./marks.js";
import { isMissing } from "./numbers.js";
import { Plot } from "./plot.js";
import { onNews } from "./runs.js";
import { colours, fontOf, onTheme } from "./theme.js";

const [TITLE, SMALL] = [32, 12]; // CSS pixels of a downloaded picture's title, and of the text below it
const [EDGE, SPOT, SCALE] = [8, 10, 80]; // CSS pixels at its edges, and of a colour and of a scale of colours in its legend

/** Options that several charts have. */
export const LOG = { name: "log", label: "Log axis", kind: "tick", value: false };
export const EARLIER = { name: "earlier", label: "Dim earlier attempts", kind: "tick", value: true };
export const SMOOTHING = { name: "smoothing", label: "Smoothing", kind: "slider", value: 0, most: 0.99, step: 0.01 };

export class Chart extends EventTarget {
  /** options: [{name, label, kind: "tick" | "choice" | "slider", value, choices, most, step, main}]. */
  constructor(figure, { name, title, options: given = [] }, { store = null, home = null, bare = false } = {}) {
    super();
    const options = structuredClone(given);
    Object.assign(this, { figure, name, title, options, store, home, pinned: null, entries: [] });
    this.wanted = Object.fromEntries(options.map((option) => [option.name, option.value]));
    this.controls = element("div.chart-controls");
    this.controls.append(...options.filter(({ main }) => main || !bare).map((option) => controlOf(this, option)));
    this.legend = element("ul.chart-legend", { "aria-label": "Legend", hidden: true });
    this.host = element("div.chart-host");
    this.words = element(figure.tagName === "FIGURE" ? "figcaption" : "p", { class: "chart-words" });
    this.tooltip = element("div.chart-tooltip", { "aria-hidden": "true", hidden: true });
    figure.classList.add("chart");
    if (!bare && !figure.querySelector("h2")) figure.append(element("h2", {}, title));
    figure.append(this.controls, this.legend, this.host, this.words, this.tooltip);
    this.again = oncePerFrame(() => this.paint());
    onTheme(this.again);
  }

  set(name, value) {
    this.wanted[name] = value;
    this.options.find((option) => option.name === name).value = value;
    this.dispatchEvent(new Event("options"));
    this.again();
  }

  offer(name, choices, value) {
    const option = this.options.find((one) => one.name === name);
    this.wanted[name] = value;
    if (JSON.stringify([option.choices, option.value]) === JSON.stringify([choices, value])) return;
    Object.assign(option, { choices, value });
    this.dispatchEvent(new Event("options"));
  }

  /** Draw in a plot that follows the store; `others`: listeners that do more than paint again. */
  drawInPlot(others = {}) {
    this.plot = new Plot(this);
    const repaint = oncePerFrame(() => this.plot.repaint());
    this.follow({ data: onNews(this.again), filter: repaint, selection: repaint, hover: () => this.plot.repaintOver(), ...others });
    this.again();
  }

  follow(listeners) {
    listen(this.store, listeners);
  }

  /** Show a legend, [{text, colour, hatched}] or [{text, shades}]. */
  explain(entries) {
    const items = entries.map(({ text, colour, hatched, shades }) => {
      const spot = swatch(colour);
      if (hatched) spot.classList.add("hatched");
      if (shades) spot.classList.add("shades");
      if (shades) spot.style.backgroundImage = `linear-gradient(to right, ${shades.join()})`;
      return element("li", {}, spot, text);
    });
    this.entries = entries;
    this.legend.replaceChildren(...items);
    this.legend.hidden = entries.length === 0;
  }

  /** Set the description, which is also the picture's name for screen readers. */
  say(words) {
    if (this.words.textContent === words) return;
    this.words.textContent = words;
    for (const canvas of this.host.querySelectorAll("canvas[role=img]")) canvas.setAttribute("aria-label", words);
  }

  /** Highlight what is under the pointer, with a text beside it: {id, tip: {title, colour, facts, id}}, null: nothing. */
  hover(over, { clientX, clientY }, hit) {
    this.store?.hover(hit?.id ?? null);
    over.classList.toggle("on-item", Boolean(hit));
    if (this.pinned) return;
    if (hit) this.show(clientX, clientY, hit.tip);
    else this.tooltip.hidden = true;
  }

  /** Choose what was clicked on, null: nothing. */
  pick({ clientX, clientY }, hit) {
    hit?.pick?.();
    if (hit) this.pin(clientX, clientY, hit.tip);
    else this.unpin();
  }

  /** Keep the text, with a link to the run's page, until the next click elsewhere or Escape. */
  pin(clientX, clientY, tip) {
    this.unpin();
    this.show(clientX, clientY, tip);
    if (!tip.id || this.home === null) return;
    this.tooltip.append(runLink(this.home, tip.id, "Open the run's page"));
    const close = ({ key, target }) => (key === "Escape" || (!key && !this.tooltip.contains(target))) && this.unpin();
    this.pinned = listen(document, { pointerdown: close, keydown: close });
    this.tooltip.removeAttribute("aria-hidden");
    this.tooltip.classList.add("pinned");
  }

  unpin() {
    this.pinned?.();
    this.pinned = null;
    this.tooltip.setAttribute("aria-hidden", "true");
    this.tooltip.classList.remove("pinned");
    this.tooltip.hidden = true;
  }

  show(clientX, clientY, { title, colour, facts }) {
    const lines = facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
    this.tooltip.replaceChildren(element("strong", {}, ...(colour ? [swatch(colour)] : []), title), element("dl", {}, ...lines));
    this.tooltip.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.tooltip;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = clientX + 14 + width > clientWidth ? clientX - width - 14 : clientX + 14;
    this.tooltip.style.left = `${Math.max(4, left)}px`;
    this.tooltip.style.top = `${Math.max(4, Math.min(clientY + 8, clientHeight - height - 4))}px`;
  }

  async toPNG() {
    const drawn = this.picture();
    return drawn && new Promise((resolve) => titled(drawn, this.title, this.entries).toBlob(resolve, "image/png"));
  }

  picture() {
    return joined(this.host);
  }

  /** Return rows() as CSV; the header comes first. */
  toCSV() {
    return this.rows().map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  }

  rows() {
    return [];
  }
}

/** Return a cell of CSV that no spreadsheet reads as a formula, as the server does. */
function cell(value) {
  if (isMissing(value)) return "";
  if (typeof value === "number") return String(value);
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : JSON.stringify(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function joined(host) {
  const parts = [...host.querySelectorAll("canvas")].filter(({ width, height }) => width && height);
  if (!parts.length) return null;
  const [ratio, outer] = [window.devicePixelRatio || 1, host.getBoundingClientRect()];
  const boxes = parts.map((part) => part.getBoundingClientRect());
  const [left, top] = [Math.min(...boxes.map((box) => box.left), outer.left), Math.min(...boxes.map((box) => box.top), outer.top)];
  const [right, bottom] = ["right", "bottom"].map((side) => Math.max(...boxes.map((box) => box[side])));
  const made = element("canvas", { width: (right - left) * ratio, height: (bottom - top) * ratio });
  const context = made.getContext("2d");
  parts.forEach((part, index) => context.drawImage(part, (boxes[index].left - left) * ratio, (boxes[index].top - top) * ratio));
  return made;
}

/** Return a picture with its title and legend above it. */
function titled(drawn, title, entries) {
  const [known, ratio, made] = [colours(), window.devicePixelRatio || 1, layer(null)];
  const [width, height] = [drawn.width / ratio, drawn.height / ratio];
  const spots = inLines(made.getContext("2d"), entries, width);
  const head = TITLE + LINE * ((spots.at(-1)?.line ?? -1) + 1);
  const context = resize(made, width, height + head);
  context.fillStyle = known.surface;
  context.fillRect(0, 0, width, height + head);
  Object.assign(context, { fillStyle: known.text, font: fontOf(14, 600), textBaseline: "middle" });
  context.fillText(title, EDGE, TITLE / 2, width - 2 * EDGE);
  context.font = fontOf(SMALL);
  for (const spot of spots) paintSpot(context, spot, TITLE + LINE * spot.line, known);
  context.drawImage(drawn, 0, head, width, height);
  return made;
}

/** Place a legend's entries side by side, in as many lines as they need. */
function inLines(context, entries, width) {
  context.font = fontOf(SMALL);
  let [left, line] = [EDGE, 0];
  return entries.map((entry) => {
    const wide = entry.shades ? SCALE : SPOT;
    const whole = wide + EDGE + context.measureText(entry.text).width;
    if (left > EDGE && left + whole > width - EDGE) [left, line] = [EDGE, line + 1];
    left += whole + 2 * EDGE;
    return { ...entry, wide, line, left: left - whole - 2 * EDGE };
  });
}

function paintSpot(context, { text, colour, hatched, shades, left, wide }, top, known) {
  const box = [left, top + (LINE - SPOT) / 2, wide, SPOT];
  const scale = shades && context.createLinearGradient(left, 0, left + wide, 0);
  shades?.forEach((shade, index) => scale.addColorStop(index / (shades.length - 1), shade));
  context.fillStyle = scale ?? colour;
  context.fillRect(...box);
  if (hatched) hatch(context, box, known.surface);
  context.fillStyle = known.text;
  context.fillText(text, left + wide + EDGE, top + LINE / 2);
}

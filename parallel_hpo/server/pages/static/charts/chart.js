/** What every chart has: a frame in a figure of the page, options, a tooltip, and downloads. */

import { controlOf, element, listen, oncePerFrame } from "./elements.js";
import { colours, fontOf, onTheme } from "./theme.js";

/** A chart in an element of the page; see index.js for what a page may use. */
export class Chart extends EventTarget {
  /** options: [{name, label, kind: "tick" | "choice" | "slider", value, choices, most, step, main}]. */
  constructor(figure, { name, title, options = [] }, { store = null, home = null, bare = false } = {}) {
    super();
    Object.assign(this, { figure, name, title, options, store, home, ends: [] });
    this.wanted = Object.fromEntries(options.map((option) => [option.name, option.value]));
    this.controls = element("div", { class: "chart-controls" });
    this.controls.append(...options.filter(({ main }) => main || !bare).map((option) => controlOf(this, option)));
    this.host = element("div", { class: "chart-host" });
    this.words = element(figure.tagName === "FIGURE" ? "figcaption" : "p", { class: "chart-words" });
    this.tooltip = element("div", { class: "chart-tooltip", "aria-hidden": "true", hidden: true });
    this.added = [this.controls, this.host, this.words, this.tooltip];
    if (!bare && !figure.querySelector("h2, h3")) this.added.unshift(element("h2", {}, title));
    figure.classList.add("chart");
    figure.append(...this.added);
    this.again = oncePerFrame(() => this.paint());
    this.ends.push(onTheme(this.again), this.again.cancel);
  }

  /** Set an option, and draw the chart with it. */
  set(name, value) {
    this.wanted[name] = value;
    this.options.find((option) => option.name === name).value = value;
    this.dispatchEvent(new Event("options"));
    this.again();
  }

  /** Replace the choices of an option. */
  offer(name, choices, value) {
    const option = this.options.find((one) => one.name === name);
    this.wanted[name] = value;
    if (JSON.stringify([option.choices, option.value]) === JSON.stringify([choices, value])) return;
    Object.assign(option, { choices, value });
    this.dispatchEvent(new Event("options"));
  }

  /** Listen to the store, {event: function}, until the chart is destroyed. */
  follow(listeners) {
    this.ends.push(listen(this.store, listeners));
  }

  /** Set the text that describes the chart; screen readers read it as the picture's name. */
  say(words) {
    if (this.words.textContent === words) return;
    this.words.textContent = words;
    for (const canvas of this.host.querySelectorAll("canvas[role=img]")) canvas.setAttribute("aria-label", words);
  }

  /** Show a tooltip beside a point of the window; the first line is the title. */
  point(clientX, clientY, lines) {
    const box = this.figure.getBoundingClientRect();
    this.tooltip.replaceChildren(...lines.map((line, index) => element(index ? "div" : "strong", {}, line)));
    this.tooltip.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.tooltip;
    const left = clientX + 14 + width > document.documentElement.clientWidth ? clientX - width - 14 : clientX + 14;
    const top = clientY + height > window.innerHeight ? clientY - height : clientY;
    this.tooltip.style.left = `${Math.max(0, left - box.left)}px`;
    this.tooltip.style.top = `${top - box.top}px`;
  }

  /** Hide the tooltip. */
  unpoint() {
    this.tooltip.hidden = true;
  }

  /** Return the chart as a PNG (a Blob), with its title; null if nothing is drawn. */
  async toPNG() {
    const made = pictureOf(this.host, this.title);
    return made && new Promise((resolve) => made.toBlob(resolve, "image/png"));
  }

  /** Return what is drawn as CSV; a chart gives it by rows(), the header first. */
  toCSV() {
    return this.rows().map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  }

  rows() {
    return [];
  }

  destroy() {
    for (const end of this.ends) end();
    for (const part of this.added) part.remove();
  }
}

/** Return a cell of CSV; text that a spreadsheet would read as a formula is escaped, as by the server. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : JSON.stringify(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return one canvas with all canvases of an element, under a title. */
function pictureOf(host, title) {
  const parts = [...host.querySelectorAll("canvas")].filter(({ width, height }) => width && height);
  if (!parts.length) return null;
  const [known, ratio, outer] = [colours(), window.devicePixelRatio || 1, host.getBoundingClientRect()];
  const boxes = parts.map((part) => part.getBoundingClientRect());
  const head = 32;
  const made = element("canvas");
  made.width = Math.max(...boxes.map((box) => box.right - outer.left)) * ratio;
  made.height = (Math.max(...boxes.map((box) => box.bottom - outer.top)) + head) * ratio;
  const context = made.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = known.surface;
  context.fillRect(0, 0, made.width, made.height);
  context.fillStyle = known.text;
  context.font = fontOf(14, 600);
  context.fillText(title, 8, 20);
  parts.forEach((part, index) => {
    const { left, top, width, height } = boxes[index];
    context.drawImage(part, left - outer.left, top - outer.top + head, width, height);
  });
  return made;
}

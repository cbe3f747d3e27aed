/** The frame of each chart: heading, controls, drawing area, a text with the same content, and a tooltip. */

import { element } from "./elements.js";

/** A chart's frame in its section of the page. */
export class Figure {
  constructor(section, title) {
    this.section = section;
    this.controls = element("div", { class: "chart-controls" });
    this.host = element("div", { class: "chart-host" });
    this.words = element("p", { class: "chart-words" });
    this.tooltip = element("div", { class: "chart-tooltip", "aria-hidden": "true", hidden: true });
    this.added = [this.controls, this.host, this.words, this.tooltip];
    if (!section.querySelector("h2, h3")) this.added.unshift(element("h2", {}, title));
    section.classList.add("chart");
    section.append(...this.added);
  }

  /** Set the text that describes the chart; screen readers read it as the picture's name. */
  say(words) {
    if (this.words.textContent === words) return;
    this.words.textContent = words;
    for (const canvas of this.host.querySelectorAll("canvas[role=img]")) canvas.setAttribute("aria-label", words);
  }

  /** Show a tooltip beside a point of the window; the first line is the title. */
  point(clientX, clientY, lines) {
    const box = this.section.getBoundingClientRect();
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

  /** Remove everything that was added to the section. */
  remove() {
    for (const part of this.added) part.remove();
  }
}

/** Return a canvas of a size in CSS pixels, and its context, scaled to these. */
export function canvas(width, height, label) {
  const made = element("canvas", label === null ? { "aria-hidden": "true" } : { role: "img", "aria-label": label });
  return { canvas: made, context: resize(made, width, height) };
}

/** Resize and clear a canvas; returns its context. */
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

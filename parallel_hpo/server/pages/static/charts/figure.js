/** What each chart stands in: heading, controls, a place to draw, a text that says the same, and a tooltip. */

import { element } from "./elements.js";

/** A chart's place in its section of the page. */
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

  /** Say in words what the picture shows; it is read aloud as the picture's name, too. */
  say(words) {
    if (this.words.textContent === words) return;
    this.words.textContent = words;
    for (const canvas of this.host.querySelectorAll("canvas[role=img]")) canvas.setAttribute("aria-label", words);
  }

  /** Show lines of text beside a point of the window, the first as a title. */
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

  /** Take the tooltip away. */
  unpoint() {
    this.tooltip.hidden = true;
  }

  /** Remove all that was added to the section. */
  remove() {
    for (const part of this.added) part.remove();
  }
}

/** Return a canvas of a size in CSS pixels, and its context, which draws in them. */
export function canvas(width, height, label) {
  const made = element("canvas", label === null ? { "aria-hidden": "true" } : { role: "img", "aria-label": label });
  return { canvas: made, context: resize(made, width, height) };
}

/** Give a canvas another size, which clears it; returns its context. */
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

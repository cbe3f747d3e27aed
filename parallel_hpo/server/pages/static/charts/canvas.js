/** Canvases in CSS pixels. */

import { element } from "./elements.js";

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

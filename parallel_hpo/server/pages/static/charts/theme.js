/** Colours of the page's style sheet for canvases, in light and dark. */

const NAMES = ["text", "muted", "surface", "line", "accent", "good", "bad", "warn"];
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** Return the page's current colours by name. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim() || "gray"]));
}

/** Return whether the page is dark. */
export function isDark() {
  return DARK.matches;
}

/** Call back when the page changes between dark and light; returns a function that removes the listener. */
export function onTheme(changed) {
  DARK.addEventListener("change", changed);
  return () => DARK.removeEventListener("change", changed);
}

/** Return a font of the page's family for a canvas. */
export function fontOf(size, weight = 400) {
  return `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
}

/** Return `steps` colours from one to another. */
export function ramp(from, to, steps) {
  const [start, end] = [channels(from), channels(to)];
  return Array.from({ length: steps }, (_, step) => {
    const share = steps === 1 ? 1 : step / (steps - 1);
    const mixed = start.map((channel, index) => Math.round(channel + (end[index] - channel) * share));
    return `rgb(${mixed.join(" ")})`;
  });
}

/** Return red, green and blue of a CSS colour. */
function channels(colour) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** Return the colour of a run's state, one of `colours()`. */
export function stateColour(state, known) {
  if (state === "failed" || state === "crashed") return known.bad;
  if (state === "finished") return known.good;
  if (state === "running" || state === "pending") return known.accent;
  return known.warn;
}

/** Colours and the font of the page's style sheet for canvases, in light and dark. */

const NAMES = ["text", "muted", "surface", "line", "accent", "good", "bad", "warn"];
const DARK = matchMedia("(prefers-color-scheme: dark)");

// Chosen one after the other as far as possible from those before, also for the three kinds of colour blindness, with a
// contrast to the surface of at least 3; tests/charts checks it.
const RUNS = {
  light:
    "236bcf c68206 7e3126 4fa1a9 5c3a7c 9f5b29 895d85 8685e5 b07660 613bab 8b5052 6c3a55 2284b1 61579e a4666e " +
    "bd7e8b 834600 6b4975 8470e5 bd5ab6 c86830 a98e57 884dbb 4c3a93 c55e8c 7d4451 b06244 974934 c369cc 965a67",
  dark:
    "64a9f3 eddb49 888500 80ecef d0a982 498c97 05cbc6 b7e8a7 ee9e10 7f7ce9 7c9569 69a1ba 96c0fe 5e90c7 9edac2 " +
    "b3ca65 be9021 cd9394 d35d93 7bd9f9 89a45e eba4d0 cce47f a3caa2 b494d6 c2d58a 6a8d4c 86b55c 6eb3b0 db6241",
};
const QUALITY = { light: ["c3bb8a", "6f9f86", "2f7a92", "2f4f8f", "3b1f6b"], dark: ["4a4c6d", "53638f", "4f8f9a", "8cc07f", "f5e663"] };
const SIGNS = { light: ["b35806", "1f6fb2"], dark: ["f1a340", "74b4f0"] };

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim() || "gray"]));
}

export function onTheme(changed) {
  DARK.addEventListener("change", changed);
}

export function fontOf(size, weight = 400) {
  return `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
}

export function palette() {
  return themed(RUNS).split(" ").map((digits) => `#${digits}`);
}

export function signColours() {
  return themed(SIGNS).map((digits) => `#${digits}`);
}

/** Return `steps` colours from bad to good; they differ in lightness too. */
export function qualities(steps) {
  const stops = themed(QUALITY).map((digits) => [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16)));
  return Array.from({ length: steps }, (_, step) => {
    const at = (step / Math.max(1, steps - 1)) * (stops.length - 1);
    const [low, share] = [Math.min(Math.floor(at), stops.length - 2), at - Math.min(Math.floor(at), stops.length - 2)];
    return `rgb(${stops[low].map((channel, index) => Math.round(channel + (stops[low + 1][index] - channel) * share)).join(" ")})`;
  });
}

function themed(choice) {
  return DARK.matches ? choice.dark : choice.light;
}

export function stateColour(state, known) {
  if (state === "failed" || state === "crashed") return known.bad;
  if (state === "finished") return known.good;
  if (state === "running" || state === "pending") return known.accent;
  return known.warn;
}

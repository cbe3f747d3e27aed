// A run's images, tables and histograms: the last ones, or those of an earlier step.

import { anything, drawing, element, find, number, say, scrollingTable } from "./format.js";
import { fetchJson } from "./live.js";

const WIDTH = 320;
const HEIGHT = 120;
const KINDS = ["images", "tables", "histograms"];
const slider = find("media-step");
let known = "";
/** The media of each step that has some, and those of the summary. */
const steps = [];
let last = null;

export async function showMedia(media, base) {
  const now = JSON.stringify(media);
  if (now === known) return;
  known = now;
  last = media;
  const isAny = KINDS.some((kind) => media[kind].length > 0);
  find("media-section").hidden = !isAny;
  if (!isAny) return;
  slider.oninput = () => showStep(base);
  const follows = steps.length === 0 || Number(slider.value) === steps.length - 1;
  const more = await fetchJson(`${base}/media?after=${nextNumber()}`).catch(() => []);
  steps.push(...more.filter(({ number }) => number >= nextNumber())); // an earlier call may have got them, too
  find("media-steps").hidden = steps.length < 2;
  slider.max = String(Math.max(0, steps.length - 1));
  if (follows) slider.value = slider.max;
  showStep(base);
}

function nextNumber() {
  return (steps.at(-1)?.number ?? -1) + 1;
}

function showStep(base) {
  const place = Number(slider.value);
  const isLast = place >= steps.length - 1;
  if (steps.length) say(find("media-at"), `${steps[place].step}${isLast ? ", the last one" : ""}`);
  showFigures(isLast ? last : mediaAt(place), base);
}

/** A key that is logged less often keeps its earlier media. */
function mediaAt(place) {
  return Object.fromEntries(KINDS.map((kind) => {
    const newest = new Map();
    for (const step of steps.slice(0, place + 1)) {
      for (const key of new Set(step[kind].map((each) => each.key))) newest.set(key, step[kind].filter((each) => each.key === key));
    }
    return [kind, [...newest.values()].flat()];
  }));
}

function showFigures(media, base) {
  const figures = [
    ...media.images.map((image) => picture(image, base)),
    ...media.tables.map((table) => tableOf(table, base)),
    ...media.histograms.map(histogram),
  ];
  find("media").replaceChildren(...figures);
}

/** Return a file's name as a part of an address. */
export const pathOf = (file) => file.split("/").map(encodeURIComponent).join("/");

function picture(image, base) {
  const words = image.caption ? `${image.key}: ${image.caption}` : image.key;
  const shown = element("img", { src: `${base}/media/${pathOf(image.file)}`, alt: words, loading: "lazy" });
  return element("figure", {}, shown, element("figcaption", {}, words));
}

function tableOf(table, base) {
  const label = `Table ${table.key}`;
  const caption = element("figcaption", {}, table.key);
  const figure = element("figure", {}, scrollingTable(label, []), caption);
  fetchJson(`${base}/table/${pathOf(table.file)}`).then((data) => {
    figure.firstChild.replaceWith(scrollingTable(label, data.rows.map((row) => row.map(cell)), data.columns));
    if (data.number > data.rows.length) caption.append(` (${data.rows.length} of ${data.number} rows)`);
  }, () => caption.append(" (its file is not uploaded yet)"));
  return figure;
}

function cell(value) {
  return value !== null && typeof value === "object" && "_type" in value ? `(${value._type})` : anything(value);
}

function histogram({ key, values, bins }) {
  const most = Math.max(...values, 1e-300);
  const span = bins[bins.length - 1] - bins[0] || 1;
  const [from, to] = [bins[0], bins[bins.length - 1]].map((bin) => number(bin, 3));
  const bars = values.map((value, place) => {
    const [left, right] = [bins[place], bins[place + 1]].map((bin) => ((bin - bins[0]) / span) * WIDTH);
    const height = (value / most) * HEIGHT;
    return drawing("rect", { x: left, y: HEIGHT - height, width: Math.max(0, right - left - 0.5), height, class: "histogram-bar" });
  });
  const look = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": `Histogram of ${key} from ${from} to ${to}` };
  const picture = drawing("svg", look, ...bars);
  return element("figure", {}, picture, element("figcaption", {}, `${key}, from ${from} to ${to}`));
}

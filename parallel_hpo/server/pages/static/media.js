// A run's last images, tables and histograms.

import { anything, element, find, number } from "./format.js";
import { fetchJson } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 120;
let known = "";

export function showMedia(media, base) {
  const now = JSON.stringify(media);
  if (now === known) return;
  known = now;
  const figures = [
    ...media.images.map((image) => picture(image, base)),
    ...media.tables.map((table) => tableOf(table, base)),
    ...media.histograms.map(histogram),
  ];
  find("media").replaceChildren(...figures);
  find("media-section").hidden = figures.length === 0;
}

function pathOf(base, kind, file) {
  return `${base}/${kind}/${file.split("/").map(encodeURIComponent).join("/")}`;
}

function picture(image, base) {
  const words = image.caption ? `${image.key}: ${image.caption}` : image.key;
  const shown = element("img", { src: pathOf(base, "media", image.file), alt: words, loading: "lazy" });
  return element("figure", {}, shown, element("figcaption", {}, words));
}

function tableOf(table, base) {
  const body = element("tbody");
  const head = element("tr");
  const shown = element("table", { class: "runs" }, element("thead", {}, head), body);
  const caption = element("figcaption", {}, table.key);
  const frame = element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Table ${table.key}` }, shown);
  fetchJson(pathOf(base, "table", table.file)).then((data) => {
    head.append(...data.columns.map((name) => element("th", { scope: "col" }, name)));
    body.append(...data.rows.map((row) => element("tr", {}, ...row.map((value) => element("td", {}, cell(value))))));
    if (data.number > data.rows.length) caption.append(` (${data.rows.length} of ${data.number} rows)`);
  }, () => caption.append(" (its file is not uploaded yet)"));
  return element("figure", {}, frame, caption);
}

function cell(value) {
  return value !== null && typeof value === "object" && "_type" in value ? `(${value._type})` : anything(value);
}

function histogram({ key, values, bins }) {
  const picture = document.createElementNS(SVG, "svg");
  const most = Math.max(...values, 1e-300);
  const span = bins[bins.length - 1] - bins[0] || 1;
  const from = number(bins[0], 3);
  const to = number(bins[bins.length - 1], 3);
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("width", WIDTH);
  picture.setAttribute("height", HEIGHT);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `Histogram of ${key} from ${from} to ${to}`);
  values.forEach((value, place) => {
    const bar = document.createElementNS(SVG, "rect");
    const left = ((bins[place] - bins[0]) / span) * WIDTH;
    const right = ((bins[place + 1] - bins[0]) / span) * WIDTH;
    const height = (value / most) * HEIGHT;
    const shape = { x: left, y: HEIGHT - height, width: Math.max(0, right - left - 0.5), height, class: "histogram-bar" };
    for (const [name, part] of Object.entries(shape)) bar.setAttribute(name, part);
    picture.append(bar);
  });
  return element("figure", {}, picture, element("figcaption", {}, `${key}, from ${from} to ${to}`));
}

// A run's last images, tables and histograms.

import { anything, drawing, element, find, number } from "./format.js";
import { fetchJson } from "./live.js";

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

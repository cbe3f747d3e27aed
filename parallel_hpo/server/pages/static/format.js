// Numbers, times and values as text.

import { asText, isMissing } from "./charts/numbers.js";

const DIGITS = 4;
/** Number of a column's values that decide on its format. */
const SAMPLE = 500;

/** Return a number with 4 significant digits; never fewer than its whole part has. */
export function number(value, digits = DIGITS) {
  if (isMissing(value)) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return String(Number(value.toPrecision(digits)));
  return size >= 10 ** (digits - 1) ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
}

/** Return a format with the same decimals for all numbers, unless they differ too much in size. */
export function columnFormat(values) {
  const numbers = values.filter((value) => typeof value === "number" && value !== 0).slice(0, SAMPLE);
  const sizes = numbers.map(Math.abs);
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (sizes.length === 0 || least < 1e-4 || most >= 1e15 || most / least > 1e3) return number;
  const decimals = Math.max(...numbers.map((value) => number(value).split(".")[1]?.length ?? 0));
  return (value) => (typeof value === "number" ? value.toFixed(decimals) : "");
}

/** Return a number that a text shortens; "" if the text is complete. */
export function fullValue(value, text) {
  return typeof value === "number" && Number.isFinite(Number(text)) && Number(text) !== value ? String(value) : "";
}

export function anything(value) {
  return isMissing(value) ? "" : asText(value, number);
}

/** Return seconds as "8.2 s", "3 min 4 s" or "2 h 7 min". */
export function duration(seconds) {
  if (isMissing(seconds)) return "";
  if (seconds < 59.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/**
 * Return how many seconds a run took: in all attempts, if a ledger says it (`spent`), with the running one (`since`).
 * The server alone knows no more than the time from the start to the end, pauses between attempts included.
 */
export function tookOf({ started, ended, spent, since }) {
  const now = Date.now() / 1000;
  if (spent !== null) return spent + (since === null ? 0 : now - since);
  return started === null ? null : (ended ?? now) - started;
}

export function tookWords({ started, spent }) {
  return started === null || spent !== null ? "" : "from start to end by the server's times, pauses included";
}

export function time(seconds) {
  if (isMissing(seconds)) return "";
  return new Date(seconds * 1000).toLocaleString("sv"); // 2026-12-03 07:59:30
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (bytes >= 1000 && place < units.length - 1) {
    bytes /= 1000;
    place++;
  }
  return `${place ? bytes.toFixed(1) : bytes} ${units[place]}`;
}

export const find = (id) => document.getElementById(id);
export const on = (id, event, heard) => find(id).addEventListener(event, heard);

/** Return a new element, `tag.class.class`. Functions among the attributes become listeners, null and false are left out. Texts are never parsed as HTML. */
export function element(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  return dress(made, attributes, ...children);
}

export function drawing(tag, attributes, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, ...children);
}

/** Give an element attributes and more children, as `element` does. */
export function dress(made, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function swatch(colour = "") {
  const made = element("span.swatch", { "aria-hidden": "true" });
  made.style.backgroundColor = colour;
  return made;
}

/** Return the attributes of what scrolls, for the keyboard and screen readers. */
export function scrolling(label) {
  return { tabindex: 0, role: "group", "aria-label": label };
}

/** Return a table of cells, texts or elements, that scrolls. */
export function scrollingTable(label, rows, titles = []) {
  const head = titles.map((title) => element("th", { scope: "col" }, title));
  const lines = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  const parts = [element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines)];
  return element("div.scroll", scrolling(label), element("table.runs", {}, ...parts));
}

export function button(words, click, attributes = {}) {
  return element("button", { type: "button", click, ...attributes }, words);
}

/** Return a checkbox with a text behind it. */
export function checkbox(words, checked, change, attributes = {}, tag = "label") {
  return element(tag, {}, element("input", { type: "checkbox", checked, change, ...attributes }), ` ${words}`);
}

/** Give an element exactly these children, in this order; those that stay keep focus and scroll. */
export function arrange(parent, children) {
  const focused = document.activeElement;
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, place) => parent.children[place] === child || parent.insertBefore(child, parent.children[place] ?? null));
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** Fill a select with options, [[value, text]], and choose one of them, else the first. */
export function fill(select, options, chosen = select.value) {
  const known = JSON.stringify(options);
  if (select.dataset.options !== known) select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  select.dataset.options = known;
  select.value = chosen;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

/** Return a link to a run's page, or a text where there are no pages (`home` is null). */
export function runLink(home, id, text = "") {
  return home === null ? element("span", {}, text) : element("a", { href: `${home}/runs/${encodeURIComponent(id)}` }, text);
}

/** Set a text only if it differs, so that selections and screen readers are not disturbed. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The browser's storage; without one, as for a file from a mail, nothing is kept. */
export const kept = {
  read(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`parallel_hpo.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`parallel_hpo.${name}`, JSON.stringify(value));
    } catch {
      // nothing is kept
    }
  },
};

// Numbers, times and values as text.

export function number(value, digits = 6) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  return String(Number(value.toPrecision(digits)));
}

export function anything(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
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

/** Return what the time is that a run took, if it isn't that of its attempts. */
export function tookWords({ started, spent }) {
  return started === null || spent !== null ? "" : "from start to end by the server's times, pauses included";
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const at = new Date(seconds * 1000);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
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

/** Return an element with attributes and text; `true` sets an attribute without a value, `false` omits it. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Set a text only if it differs, so that selections and screen readers are not disturbed. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

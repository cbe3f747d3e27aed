// The columns of the run table: contents, order, and which ones are hidden.

import { anything, duration, element, number, time } from "./format.js";

const KEPT = "parallel_hpo.hidden";

/** A column: its name in the store, its title, the format of values, and whether they are numbers. */
function column(name, title, show = anything, isNumber = false) {
  return { name, title, show, isNumber };
}

/** Return all columns of a store's runs. */
export function columnsOf(store) {
  const metric = store.sweep?.metric?.name;
  const fixed = [
    column("id", "run"),
    column("state", "state"),
    column("value", metric ?? "value", number, true),
    column("duration", "duration", duration, true),
  ];
  const rest = [
    column("name", "name"),
    column("started", "started", time, true),
    column("ended", "ended", time, true),
    column("attempts", "attempts", anything, true),
    column("worker", "worker"),
  ];
  if (store.sweep === null) fixed.splice(1, 0, column("sweep", "sweep"));
  return [...fixed, ...parametersOf(store), ...rest];
}

function parametersOf(store) {
  const varied = new Map(store.parameters.map((parameter) => [parameter.name, parameter.varied]));
  const names = Object.keys(store.runs.parameters);
  names.sort((one, other) => (varied.get(other) === true) - (varied.get(one) === true));
  return names.map((name) => {
    const isNumber = store.runs.parameters[name].some((value) => typeof value === "number");
    return { ...column(`parameters.${name}`, name, anything, isNumber), constant: varied.get(name) === false };
  });
}

/** The browser's storage; null if there is none, as for a file from a mail. */
function storage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** The hidden columns; the choice is stored in this browser for each sweep. */
export class Hidden extends EventTarget {
  #names;
  #kept;

  constructor(about) {
    super();
    this.#kept = `${KEPT}.${about}`;
    this.#names = new Map(JSON.parse(storage()?.getItem(this.#kept) ?? "[]"));
  }

  has(column) {
    return this.#names.get(column.name) ?? (column.constant === true || ["name", "ended"].includes(column.name));
  }

  set(column, hidden) {
    this.#names.set(column.name, hidden);
    storage()?.setItem(this.#kept, JSON.stringify([...this.#names]));
    this.dispatchEvent(new Event("change"));
  }
}

/** Fill the menu that shows and hides columns. */
export function fillMenu(menu, columns, hidden) {
  const fieldset = menu.querySelector("fieldset");
  const known = [...fieldset.querySelectorAll("input")].map((input) => input.name).join("\n");
  if (known === columns.map((each) => each.name).join("\n")) return;
  fieldset.querySelectorAll("label").forEach((label) => label.remove());
  for (const each of columns) {
    const box = element("input", { type: "checkbox", name: each.name });
    box.checked = !hidden.has(each);
    box.addEventListener("change", () => hidden.set(each, !box.checked));
    fieldset.append(element("label", {}, box, ` ${each.title}`));
  }
}

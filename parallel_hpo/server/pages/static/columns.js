// The columns of the run table: contents, order, and which ones are hidden.

import { metricName } from "./charts/runs.js";
import { anything, checkbox, columnFormat, duration, kept, number, time } from "./format.js";

const HIDDEN_AT_FIRST = ["id", "ended"];

function column(name, title, show = anything, isNumber = false) {
  return { name, title, show, isNumber };
}

export function columnsOf(store) {
  const fixed = [
    column("name", "name"),
    column("value", metricName(store), number, true),
    column("state", "state"),
    column("duration", "duration", duration, true),
  ];
  const rest = [
    column("started", "started", time, true),
    column("ended", "ended", time, true),
    column("attempts", "attempts", anything, true),
    column("worker", "worker"),
    column("id", "id"),
  ];
  if (store.sweep === null) fixed.push(column("sweep", "sweep"));
  return [...fixed, ...parametersOf(store), ...loggedOf(store), ...rest];
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

/** Return columns of the values in summaries, hidden at first: the server sends those that are used. */
function loggedOf(store) {
  const taken = Object.keys(store.runs.parameters);
  return store.loggedBesideMetric.map((name) => {
    const isNumber = store.runs.logged?.[name]?.some((value) => typeof value === "number") ?? true;
    return { ...column(`logged.${name}`, taken.includes(name) ? `${name} (logged)` : name, anything, isNumber), constant: true };
  });
}

/** The same decimals in all rows. */
export function formatOf(store, column) {
  const isPlain = column.isNumber && (column.show === number || column.show === anything);
  if (!isPlain) return column.show;
  const show = columnFormat(store.column(column.name));
  return (value) => (typeof value === "number" ? show(value) : anything(value));
}

/** The hidden columns and the order of all, stored in this browser for each project. */
export class ColumnChoice extends EventTarget {
  #hidden;
  #order;
  #about;

  constructor(about) {
    super();
    this.#about = about;
    this.#hidden = new Map(kept.read(`hidden.${about}`, []));
    this.#order = kept.read(`order.${about}`, []);
  }

  hides(column) {
    return this.#hidden.get(column.name) ?? (column.constant === true || HIDDEN_AT_FIRST.includes(column.name));
  }

  hide(column, hidden) {
    this.#hidden.set(column.name, hidden);
    kept.write(`hidden.${this.#about}`, [...this.#hidden]);
    this.dispatchEvent(new Event("change"));
  }

  /** Columns that were never moved come last. */
  sorted(columns) {
    const place = ({ name }) => (this.#order.includes(name) ? this.#order.indexOf(name) : Infinity);
    return columns.map((each, index) => [place(each), index, each]).sort((one, other) => one[0] - other[0] || one[1] - other[1]).map(([, , each]) => each);
  }

  move(columns, name, to) {
    const names = columns.map((each) => each.name);
    const [from, target] = [names.indexOf(name), names.indexOf(to)];
    if (from < 0 || target < 0) return;
    names.splice(target, 0, ...names.splice(from, 1));
    this.#order = names;
    kept.write(`order.${this.#about}`, names);
    this.dispatchEvent(new Event("change"));
  }
}

export function fillMenu(menu, columns, choice) {
  const fieldset = menu.querySelector("fieldset");
  const known = columns.map((each) => each.name).join("\n");
  if (fieldset.dataset.columns === known) return;
  fieldset.dataset.columns = known;
  fieldset.querySelectorAll("label").forEach((label) => label.remove());
  const change = (each) => ({ target }) => choice.hide(each, !target.checked);
  fieldset.append(...columns.map((each) => checkbox(each.title, !choice.hides(each), change(each), { name: each.name })));
}

// The run table: one page of sorted rows, updated in place, so that visible rows don't jump.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { ColumnChoice, columnsOf, fillMenu, formatOf } from "./columns.js";
import { arrange, element, find, fullValue, runLink, say, tookWords } from "./format.js";
import { wireDrag } from "./menus.js";
import { followHover, goesUpAtFirst, ordered, pointAt, selectionBox } from "./order.js";

export class RunTable {
  #store;
  #home;
  #choice;
  #columns = [];
  #formats = [];
  #sort = null;
  #page = 0;
  #rows = new Map();
  #head = document.querySelector("#runs thead tr");
  #body = document.querySelector("#runs tbody");
  #size = find("page-size");
  /** Draw, unless the table is hidden. */
  refresh = oncePerFrame(() => this.#body.closest("[hidden]") || this.#draw());

  constructor(store, home) {
    this.#store = store;
    this.#home = home;
    this.#choice = new ColumnChoice(home);
    for (const event of ["data", "selection"]) store.addEventListener(event, this.refresh);
    store.addEventListener("filter", () => {
      this.#page = 0;
      this.refresh();
    });
    store.addEventListener("hover", () => pointAt(this.#body, this.#rows, store));
    this.#choice.addEventListener("change", this.refresh);
    this.#size.addEventListener("change", () => this.#turnTo(0));
    wireDrag(this.#head, "th", ({ dataset }, other) => this.#moveTo(dataset.column, other.dataset.column));
    const turns = { "page-first": () => 0, "page-back": () => this.#page - 1, "page-on": () => this.#page + 1, "page-last": () => Infinity };
    for (const [id, page] of Object.entries(turns)) {
      find(id).addEventListener("click", () => this.#turnTo(page()));
    }
  }

  #turnTo(page) {
    this.#page = page;
    find("table-scroll").scrollTop = 0;
    this.refresh();
  }

  sortBy(name) {
    const again = this.#order().name === name;
    this.#sort = { name, up: again ? !this.#order().up : goesUpAtFirst(this.#store, name) };
    this.#page = 0;
    this.refresh();
  }

  #order() {
    const first = this.#store.sweep?.metric ? "value" : "started";
    return this.#sort ?? { name: first, up: goesUpAtFirst(this.#store, first) };
  }

  #draw() {
    const all = this.#choice.sorted(columnsOf(this.#store));
    fillMenu(find("columns"), all, this.#choice);
    this.#columns = all.filter((column) => !this.#choice.hides(column));
    this.#formats = this.#columns.map((column) => formatOf(this.#store, column));
    const order = this.#order();
    const rows = ordered(this.#store, order.name, order.up);
    const size = Number(this.#size.value);
    const pages = Math.max(1, Math.ceil(rows.length / size));
    this.#page = Math.max(0, Math.min(this.#page, pages - 1));
    const here = rows.slice(this.#page * size, (this.#page + 1) * size);
    this.#drawHead(order);
    this.#drawBody(here);
    this.#drawBars(rows.length, pages);
  }

  #drawHead(order) {
    const wanted = this.#columns.map((column) => `${column.name}\n${column.title}`).join("\n\n");
    if (this.#head.dataset.columns !== wanted) {
      this.#head.dataset.columns = wanted;
      this.#rows.clear();
      this.#head.replaceChildren(this.#pick(), ...this.#columns.map((column) => this.#title(column)));
    }
    for (const cell of this.#head.querySelectorAll("th[data-column]")) {
      const isIt = cell.dataset.column === order.name;
      cell.setAttribute("aria-sort", isIt ? (order.up ? "ascending" : "descending") : "none");
    }
    const shown = [...this.#rows.keys()];
    const box = this.#head.querySelector("input");
    box.checked = shown.length > 0 && shown.every((id) => this.#store.selected.has(id));
  }

  #title(column) {
    const { name, title, isNumber } = column;
    const wired = { click: () => this.sortBy(name), keydown: (event) => this.#press(event, name), draggable: "true", "data-column": name };
    return element("th", { scope: "col", tabindex: "0", "aria-sort": "none", title, class: isNumber && "number", ...wired }, title);
  }

  #press(event, name) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key !== "Enter" && event.key !== " " && !(by && event.altKey)) return;
    event.preventDefault();
    if (!by) return this.sortBy(name);
    const other = this.#columns[this.#columns.findIndex((column) => column.name === name) + by];
    if (other) this.#moveTo(name, other.name);
  }

  #moveTo(name, target) {
    this.#choice.move(this.#choice.sorted(columnsOf(this.#store)), name, target);
    requestAnimationFrame(() => this.#head.querySelector(`[data-column="${CSS.escape(name)}"]`)?.focus());
  }

  #pick() {
    const change = ({ target }) => {
      const rest = [...this.#store.selected].filter((id) => !this.#rows.has(id));
      this.#store.select(target.checked ? [...rest, ...this.#rows.keys()] : rest);
    };
    return element("td", {}, element("input", { type: "checkbox", "aria-label": "Select all runs of this page", change }));
  }

  /** Rows are kept by run, so that a focused or selected row stays the same element. */
  #drawBody(here) {
    const before = this.#rows;
    this.#rows = new Map();
    for (const row of here) {
      const id = this.#store.runs.id[row];
      this.#rows.set(id, before.get(id) ?? this.#line(id));
      this.#fill(this.#rows.get(id), row);
    }
    arrange(this.#body, [...this.#rows.values()]);
  }

  #line(id) {
    const cells = this.#columns.map((column) => element("td", { class: column.isNumber && "number" }));
    const box = selectionBox(this.#store, id, `Select run ${id}`);
    return element("tr", { "data-run": id, ...followHover(this.#store, id) }, element("td", {}, box), ...cells);
  }

  /** Show a run's name as a link to its page, or as text in a report, which has no pages. */
  #name(cell, id, name) {
    if (!cell.firstChild) cell.append(runLink(this.#home, id));
    cell.title = name;
    return say(cell.firstChild, name);
  }

  #fill(line, row) {
    const id = this.#store.runs.id[row];
    const isSelected = this.#store.selected.has(id);
    line.classList.toggle("selected", isSelected);
    line.classList.toggle("best-run", id === this.#store.best);
    line.firstChild.firstChild.checked = isSelected;
    this.#columns.forEach((column, place) => {
      const cell = line.children[place + 1];
      if (column.name === "name") return this.#name(cell, id, this.#store.runs.name[row]);
      const isDuration = column.name === "duration";
      const value = this.#store.value(column.name, row);
      const text = this.#formats[place](value);
      say(cell, text);
      const title = isDuration ? tookWords(this.#store.times(row)) : fullValue(value, text) || (text.length > 40 ? text : "");
      if (cell.title !== title) cell.title = title;
      if (column.name === "state") cell.className = `state-${value}`;
      return undefined;
    });
  }

  #drawBars(number, pages) {
    const store = this.#store;
    const chosen = store.selected.size ? `, ${store.selected.size} selected` : "";
    const part = number === store.count ? counted(store.count, "run") : `${number} of ${store.count} runs`;
    say(find("shown"), part + chosen);
    say(find("page-where"), `page ${this.#page + 1} of ${pages}`);
    for (const id of ["page-first", "page-back"]) find(id).disabled = this.#page === 0;
    for (const id of ["page-on", "page-last"]) find(id).disabled = this.#page >= pages - 1;
  }
}

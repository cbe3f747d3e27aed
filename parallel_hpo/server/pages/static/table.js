// The run table: one page of sorted rows, updated in place, so that visible rows don't jump.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { ColumnChoice, columnsOf, fillMenu, formatOf } from "./columns.js";
import { element, find, fullValue, runLink, say, tookWords } from "./format.js";
import { goesUpAtFirst, ordered } from "./order.js";

export class RunTable {
  #store;
  #home;
  #choice;
  #columns = [];
  #formats = [];
  #sort = null;
  #page = 0;
  #rows = new Map();
  #soon = oncePerFrame(() => this.#body.closest("[hidden]") || this.#draw());

  constructor(store, home) {
    this.#store = store;
    this.#home = home;
    this.#choice = new ColumnChoice(home);
    this.#head = document.querySelector("#runs thead tr");
    this.#body = document.querySelector("#runs tbody");
    this.#size = find("page-size");
    this.#wire();
  }

  #head;
  #body;
  #size;

  #wire() {
    for (const event of ["data", "selection"]) this.#store.addEventListener(event, () => this.#soon());
    this.#store.addEventListener("filter", () => {
      this.#page = 0;
      this.#soon();
    });
    this.#store.addEventListener("hover", () => this.#point());
    this.#choice.addEventListener("change", () => this.#soon());
    this.#size.addEventListener("change", () => this.#turnTo(0));
    const turns = { "page-first": () => 0, "page-back": () => this.#page - 1, "page-on": () => this.#page + 1, "page-last": () => Infinity };
    for (const [id, page] of Object.entries(turns)) {
      find(id).addEventListener("click", () => this.#turnTo(page()));
    }
  }

  #turnTo(page) {
    this.#page = page;
    find("table-scroll").scrollTop = 0;
    this.#soon();
  }

  /** Draw what has changed while the table was hidden. */
  refresh() {
    this.#soon();
  }


  sortBy(name) {
    const again = this.#order().name === name;
    this.#sort = { name, up: again ? !this.#order().up : goesUpAtFirst(this.#store, name) };
    this.#page = 0;
    this.#soon();
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
    const cell = element("th", { scope: "col", tabindex: "0", draggable: "true", "data-column": column.name, "aria-sort": "none", title: column.title, class: column.isNumber ? "number" : false }, column.title);
    cell.addEventListener("click", () => this.sortBy(column.name));
    cell.addEventListener("keydown", (event) => this.#press(event, column.name));
    cell.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/column", column.name));
    cell.addEventListener("dragover", (event) => {
      event.preventDefault();
      cell.classList.add("dropping");
    });
    for (const end of ["dragleave", "drop"]) cell.addEventListener(end, () => cell.classList.remove("dropping"));
    cell.addEventListener("drop", (event) => this.#moveTo(event.dataTransfer.getData("text/column"), column.name));
    return cell;
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
    const box = element("input", { type: "checkbox", "aria-label": "Select all runs of this page" });
    box.addEventListener("change", () => {
      const rest = [...this.#store.selected].filter((id) => !this.#rows.has(id));
      this.#store.select(box.checked ? [...rest, ...this.#rows.keys()] : rest);
    });
    return element("td", {}, box);
  }

  /** Rows are kept by run, so that a focused or selected row stays the same element. */
  #drawBody(here) {
    const focused = document.activeElement;
    const before = this.#rows;
    this.#rows = new Map();
    let next = this.#body.firstChild;
    for (const row of here) {
      const id = this.#store.runs.id[row];
      const line = before.get(id) ?? this.#line(id);
      before.delete(id);
      this.#rows.set(id, line);
      this.#fill(line, row);
      if (line === next) next = next.nextSibling;
      else this.#body.insertBefore(line, next);
    }
    while (next !== null) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  #line(id) {
    const box = element("input", { type: "checkbox", "aria-label": `Select run ${id}` });
    box.addEventListener("change", () => this.#store.choose(id, box.checked));
    const cells = this.#columns.map((column) => element("td", { class: column.isNumber ? "number" : false }));
    const line = element("tr", { "data-run": id }, element("td", {}, box), ...cells);
    line.addEventListener("pointerenter", () => this.#store.hover?.(id));
    line.addEventListener("pointerleave", () => this.#store.hover?.(null));
    return line;
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

  #point() {
    for (const line of this.#body.querySelectorAll(".pointed")) line.classList.remove("pointed");
    this.#rows.get(this.#store.hovered)?.classList.add("pointed");
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

// The run table: one page of sorted rows, updated in place, so that visible rows don't jump.

import { columnsOf, fillMenu, Hidden } from "./columns.js";
import { element, say, tookOf, tookWords } from "./format.js";
import { goesUpAtFirst, ordered } from "./order.js";

export class RunTable {
  #store;
  #home;
  #hidden;
  #columns = [];
  #sort = null;
  #page = 0;
  #rows = new Map();
  #due = false;

  constructor(store, home) {
    this.#store = store;
    this.#home = home;
    this.#hidden = new Hidden(home);
    this.#head = document.querySelector("#runs thead tr");
    this.#body = document.querySelector("#runs tbody");
    this.#size = document.getElementById("page-size");
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
    this.#hidden.addEventListener("change", () => this.#soon());
    this.#size.addEventListener("change", () => this.#turnTo(0));
    const turns = { "page-first": () => 0, "page-back": () => this.#page - 1, "page-on": () => this.#page + 1, "page-last": () => Infinity };
    for (const [id, page] of Object.entries(turns)) {
      document.getElementById(id).addEventListener("click", () => this.#turnTo(page()));
    }
  }

  #turnTo(page) {
    this.#page = page;
    document.getElementById("table-scroll").scrollTop = 0;
    this.#soon();
  }

  /** Draw once for several simultaneous changes. */
  #soon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
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
    const all = columnsOf(this.#store);
    fillMenu(document.getElementById("columns"), all, this.#hidden);
    this.#columns = all.filter((column) => !this.#hidden.has(column));
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
    const cell = element("th", { scope: "col", tabindex: "0", "data-column": column.name, "aria-sort": "none" }, column.title);
    cell.addEventListener("click", () => this.sortBy(column.name));
    cell.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.sortBy(column.name);
    });
    return cell;
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
    box.addEventListener("change", () => {
      const others = [...this.#store.selected].filter((other) => other !== id);
      this.#store.select(box.checked ? [...others, id] : others);
    });
    const cells = this.#columns.map((column) => element("td", { class: column.isNumber ? "number" : false }));
    const line = element("tr", { "data-run": id }, element("td", {}, box), ...cells);
    const place = this.#columns.findIndex((column) => column.name === "id");
    if (place >= 0) cells[place].append(this.#name(id));
    return line;
  }

  /** Return a run's id as a link to its page, or as text in a report, which has no pages. */
  #name(id) {
    return this.#home === null ? id : element("a", { href: `${this.#home}/runs/${encodeURIComponent(id)}` }, id);
  }

  #fill(line, row) {
    const id = this.#store.runs.id[row];
    const isSelected = this.#store.selected.has(id);
    line.classList.toggle("selected", isSelected);
    line.classList.toggle("best-run", id === this.#store.best);
    line.firstChild.firstChild.checked = isSelected;
    this.#columns.forEach((column, place) => {
      const cell = line.children[place + 1];
      if (column.name === "id") return;
      const isDuration = column.name === "duration";
      const value = isDuration ? tookOf(this.#store.times(row)) : this.#store.column(column.name)[row];
      if (isDuration) cell.title = tookWords(this.#store.times(row));
      say(cell, column.show(value));
      if (column.name === "state") cell.className = `state-${value}`;
    });
  }

  #drawBars(number, pages) {
    const store = this.#store;
    const chosen = store.selected.size ? `, ${store.selected.size} selected` : "";
    const part = number === store.count ? `${store.count} runs` : `${number} of ${store.count} runs`;
    say(document.getElementById("shown"), part + chosen);
    say(document.getElementById("page-where"), `page ${this.#page + 1} of ${pages}`);
    for (const id of ["page-first", "page-back"]) document.getElementById(id).disabled = this.#page === 0;
    for (const id of ["page-on", "page-last"]) document.getElementById(id).disabled = this.#page >= pages - 1;
  }
}

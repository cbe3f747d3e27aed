// The run table: one page of sorted rows, updated in place, so that visible rows don't jump.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { ColumnChoice, columnsOf, fillMenu, formatOf } from "./columns.js";
import { arrange, element, find, fullValue, runLink, say, tookWords } from "./format.js";
import { wireDrag } from "./menus.js";
import { followHover, goesUpAtFirst, ordered, pointAt, selectionBox } from "./order.js";

export function runTable(store, home) {
  const choice = new ColumnChoice(home);
  let columns = [];
  let formats = [];
  let sort = null;
  let pageNumber = 0;
  let lines = new Map();
  const head = document.querySelector("#runs thead tr");
  const body = document.querySelector("#runs tbody");
  const sizes = find("page-size");
  /** Draw, unless the table is hidden. */
  const refresh = oncePerFrame(() => body.closest("[hidden]") || draw());

  function turnTo(page) {
    pageNumber = page;
    find("table-scroll").scrollTop = 0;
    refresh();
  }

  function sortBy(name) {
    const now = orderNow();
    sort = { name, up: now.name === name ? !now.up : goesUpAtFirst(store, name) };
    pageNumber = 0;
    refresh();
  }

  function orderNow() {
    const first = store.metric ? "value" : "started";
    return sort ?? { name: first, up: goesUpAtFirst(store, first) };
  }

  function draw() {
    const all = choice.sorted(columnsOf(store));
    fillMenu(find("columns"), all, choice);
    columns = all.filter((column) => !choice.hides(column));
    formats = columns.map((column) => formatOf(store, column));
    const order = orderNow();
    const rows = ordered(store, order.name, order.up);
    const size = Number(sizes.value);
    const pages = Math.max(1, Math.ceil(rows.length / size));
    pageNumber = Math.max(0, Math.min(pageNumber, pages - 1));
    const here = rows.slice(pageNumber * size, (pageNumber + 1) * size);
    drawHead(order);
    drawBody(here);
    drawBars(rows.length, pages);
  }

  function drawHead(order) {
    const wanted = columns.map((column) => `${column.name}\n${column.title}`).join("\n\n");
    if (head.dataset.columns !== wanted) {
      head.dataset.columns = wanted;
      lines.clear();
      head.replaceChildren(pick(), ...columns.map(title));
    }
    for (const cell of head.querySelectorAll("th[data-column]")) {
      const isIt = cell.dataset.column === order.name;
      cell.setAttribute("aria-sort", isIt ? (order.up ? "ascending" : "descending") : "none");
    }
    const shown = [...lines.keys()];
    const box = head.querySelector("input");
    box.checked = shown.length > 0 && shown.every((id) => store.selected.has(id));
  }

  function title(column) {
    const { name, title, isNumber } = column;
    const wired = { click: () => sortBy(name), keydown: (event) => press(event, name), draggable: "true", "data-column": name };
    return element("th", { scope: "col", tabindex: "0", "aria-sort": "none", title, class: isNumber && "number", ...wired }, title);
  }

  function press(event, name) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key !== "Enter" && event.key !== " " && !(by && event.altKey)) return;
    event.preventDefault();
    if (!by) return sortBy(name);
    const other = columns[columns.findIndex((column) => column.name === name) + by];
    if (other) moveTo(name, other.name);
  }

  function moveTo(name, target) {
    choice.move(choice.sorted(columnsOf(store)), name, target);
    requestAnimationFrame(() => head.querySelector(`[data-column="${CSS.escape(name)}"]`)?.focus());
  }

  function pick() {
    const change = ({ target }) => {
      const rest = [...store.selected].filter((id) => !lines.has(id));
      store.select(target.checked ? [...rest, ...lines.keys()] : rest);
    };
    return element("td", {}, element("input", { type: "checkbox", "aria-label": "Select all runs of this page", change }));
  }

  /** Rows are kept by run, so that a focused or selected row stays the same element. */
  function drawBody(here) {
    const before = lines;
    lines = new Map();
    for (const row of here) {
      const id = store.runs.id[row];
      lines.set(id, before.get(id) ?? line(id));
      fill(lines.get(id), row);
    }
    arrange(body, [...lines.values()]);
  }

  function line(id) {
    const cells = columns.map((column) => element("td", { class: column.isNumber && "number" }));
    const box = selectionBox(store, id, `Select run ${id}`);
    return element("tr", { "data-run": id, ...followHover(store, id) }, element("td", {}, box), ...cells);
  }

  function showName(cell, id, name) {
    if (!cell.firstChild) cell.append(runLink(home, id));
    cell.title = name;
    return say(cell.firstChild, name);
  }

  function fill(line, row) {
    const id = store.runs.id[row];
    const isSelected = store.selected.has(id);
    line.classList.toggle("selected", isSelected);
    line.classList.toggle("best-run", id === store.best);
    line.firstChild.firstChild.checked = isSelected;
    columns.forEach((column, place) => {
      const cell = line.children[place + 1];
      if (column.name === "name") return showName(cell, id, store.runs.name[row]);
      const isDuration = column.name === "duration";
      const value = store.value(column.name, row);
      const text = formats[place](value);
      say(cell, text);
      const title = isDuration ? tookWords(store.times(row)) : fullValue(value, text) || (text.length > 40 ? text : "");
      if (cell.title !== title) cell.title = title;
      if (column.name === "state") cell.className = `state-${value}`;
      return undefined;
    });
  }

  function drawBars(number, pages) {
    const chosen = store.selected.size ? `, ${store.selected.size} selected` : "";
    const part = number === store.count ? counted(store.count, "run") : `${number} of ${store.count} runs`;
    say(find("shown"), part + chosen);
    say(find("page-where"), `page ${pageNumber + 1} of ${pages}`);
    for (const id of ["page-first", "page-back"]) find(id).disabled = pageNumber === 0;
    for (const id of ["page-on", "page-last"]) find(id).disabled = pageNumber >= pages - 1;
  }

  for (const event of ["data", "selection"]) store.addEventListener(event, refresh);
  store.addEventListener("filter", () => {
    pageNumber = 0;
    refresh();
  });
  store.addEventListener("hover", () => pointAt(body, lines, store));
  choice.addEventListener("change", refresh);
  sizes.addEventListener("change", () => turnTo(0));
  wireDrag(head, "th", ({ dataset }, other) => moveTo(dataset.column, other.dataset.column));
  const turns = { "page-first": () => 0, "page-back": () => pageNumber - 1, "page-on": () => pageNumber + 1, "page-last": () => Infinity };
  for (const [id, page] of Object.entries(turns)) {
    find(id).addEventListener("click", () => turnTo(page()));
  }
  return refresh;
}

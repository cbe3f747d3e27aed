// The list of runs beside the charts: order, groups, which runs are shown, and which are selected.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { runColour } from "./charts/runs.js";
import { columnsOf } from "./columns.js";
import { anything, arrange, button, columnFormat, element, fill, find, fullValue, kept, runLink, say } from "./format.js";
import { iconButton } from "./menus.js";
import { followHover, goesUpAtFirst, ordered, pointAt, selectionBox } from "./order.js";

const MANY = 200;

export class RunList {
  #store;
  #home;
  #kept;
  #wanted;
  #many = MANY;
  #lines = new Map();
  #closed = new Set();
  #soon = oncePerFrame(() => this.#draw());
  #list = find("rail-list");
  #sort = find("rail-sort");
  #group = find("rail-group");

  constructor(store, home) {
    this.#store = store;
    this.#home = home;
    this.#kept = `list.${home}`;
    this.#wanted = kept.read(this.#kept, { sort: "", group: "" });
    for (const event of ["data", "filter", "selection"]) store.addEventListener(event, this.#soon);
    store.addEventListener("hover", () => pointAt(this.#list, this.#lines, store));
    for (const [name, select] of [["sort", this.#sort], ["group", this.#group]]) {
      select.addEventListener("change", () => this.#want({ [name]: select.value }));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#soon);
  }

  #want(change) {
    Object.assign(this.#wanted, change);
    kept.write(this.#kept, this.#wanted);
    this.#many = MANY;
    this.#soon();
  }

  #draw() {
    const store = this.#store;
    this.#offer();
    const name = this.#sort.value || (store.sweep?.metric ? "value" : "started");
    const rows = ordered(store, name, goesUpAtFirst(store, name), store.listed);
    const show = columnFormat(store.runs.value);
    const parts = [];
    for (const [title, group] of this.#groups(rows)) {
      if (title !== null) parts.push(this.#head(title, group));
      if (title !== null && this.#closed.has(title)) continue;
      for (const row of group.slice(0, Math.max(0, this.#many - parts.length))) parts.push(this.#line(row, show));
    }
    if (parts.length >= this.#many && rows.length > this.#many) parts.push(this.#more(rows.length));
    if (parts.length === 0) parts.push(element("li", { class: "more quiet" }, store.count ? "No run matches the filters." : "No run has started yet."));
    arrange(this.#list, parts);
    const shown = rows.filter((row) => store.shown[row]).length;
    const words = shown === store.count ? counted(store.count, "run") : `${shown} of ${store.count} runs`;
    say(find("rail-count"), store.selected.size ? `${words}, ${store.selected.size} selected` : words);
  }

  #offer() {
    const columns = columnsOf(this.#store);
    const options = (prefix, some) => some.map((column) => [column.name, prefix + column.title]);
    const grouping = columns.filter(({ name }) => name.startsWith("parameters.") || ["state", "worker"].includes(name));
    fill(this.#sort, [["", "best first"], ...options("by ", columns)], this.#wanted.sort);
    fill(this.#group, [["", "no groups"], ...options("group: ", grouping)], this.#wanted.group);
  }

  /** Return pairs of a group's title and rows, the group with the first row first; one with null without groups. */
  #groups(rows) {
    if (!this.#group.value) return [[null, rows]];
    const values = this.#store.column(this.#group.value);
    const groups = new Map();
    for (const row of rows) {
      const title = anything(values[row]) || "not set";
      if (!groups.has(title)) groups.set(title, []);
      groups.get(title).push(row);
    }
    return groups;
  }

  #head(title, rows) {
    const open = !this.#closed.has(title);
    const press = () => {
      this.#closed[open ? "add" : "delete"](title);
      this.#soon();
    };
    const fold = button(open ? "−" : "+", press, { class: "plain icon-button", "aria-expanded": String(open), "aria-label": `Runs of ${title}` });
    return element("li", { class: "group" }, fold, element("span", { class: "name", title }, title), element("span", {}, String(rows.length)), this.#eye(rows.map((row) => this.#store.runs.id[row]), title));
  }

  #more(all) {
    const press = () => {
      this.#many += MANY;
      this.#soon();
    };
    return element("li", { class: "more" }, button(`Show ${Math.min(MANY, all - this.#many)} more of ${all}`, press));
  }

  #line(row, show) {
    const store = this.#store;
    const id = store.runs.id[row];
    if (!this.#lines.has(id)) this.#lines.set(id, this.#newLine(id));
    const line = this.#lines.get(id);
    const [box, swatch, state, name, value] = line.children;
    const isSelected = store.selected.has(id);
    line.className = ["run", isSelected && "selected", !store.shown[row] && "off", id === store.best && "best", id === store.hovered && "pointed"].filter(Boolean).join(" ");
    box.checked = isSelected;
    swatch.style.backgroundColor = runColour(store, row);
    const attempts = store.runs.attempts[row];
    state.className = `state state-${store.runs.state[row]}`;
    state.title = attempts > 1 ? `${store.runs.state[row]}, attempt ${attempts}` : store.runs.state[row];
    say(state.firstChild, state.title);
    say(name, store.runs.name[row]);
    name.title = store.runs.name[row] === id ? id : `${store.runs.name[row]} (${id})`;
    say(value, show(store.runs.value[row]));
    value.title = fullValue(store.runs.value[row], value.textContent);
    this.#look(line.lastChild, [id], store.runs.name[row]);
    return line;
  }

  #newLine(id) {
    const box = selectionBox(this.#store, id, `Select run ${id} in charts`);
    const name = runLink(this.#home, id);
    name.className = "name";
    const state = element("span", { class: "state" }, element("span", { class: "hearing-only" }));
    const click = ({ target }) => target.closest("a, button, input") || this.#store.choose(id);
    const swatch = element("span", { class: "swatch" });
    return element("li", { "data-run": id, click, ...followHover(this.#store, id) }, box, swatch, state, name, element("span", { class: "value" }), this.#eye([id], id));
  }

  #eye(ids, title) {
    const eye = iconButton("eye", "", () => this.#store.hide(ids, eye.getAttribute("aria-pressed") === "true"));
    this.#look(eye, ids, title);
    return eye;
  }

  #look(eye, ids, title) {
    const isShown = ids.some((id) => !this.#store.hidden.has(id));
    eye.setAttribute("aria-pressed", String(isShown));
    eye.setAttribute("aria-label", `Show ${title} in charts`);
    eye.title = isShown ? "Hide in charts" : "Show in charts";
    eye.firstChild.className = isShown ? "icon eye" : "icon no-eye";
  }
}

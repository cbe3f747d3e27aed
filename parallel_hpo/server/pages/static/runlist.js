// The list of runs beside the charts: order, groups, which runs are shown, and which are selected.

import { oncePerFrame } from "./charts/elements.js";
import { counted } from "./charts/numbers.js";
import { runColour } from "./charts/runs.js";
import { columnsOf } from "./columns.js";
import { anything, arrange, button, columnFormat, dress, element, fill, find, fullValue, kept, runLink, say, swatch } from "./format.js";
import { iconButton } from "./menus.js";
import { followHover, goesUpAtFirst, ordered, pointAt, selectionBox } from "./order.js";

const MANY = 200;

export function runList(store, home) {
  const place = `list.${home}`;
  const wishes = kept.read(place, { sort: "", group: "" });
  let most = MANY;
  const lines = new Map();
  const closed = new Set();
  const soon = oncePerFrame(() => draw());
  const list = find("rail-list");
  const sort = find("rail-sort");
  const group = find("rail-group");

  function want(change) {
    Object.assign(wishes, change);
    kept.write(place, wishes);
    most = MANY;
    soon();
  }

  function draw() {
    offer();
    const name = sort.value || (store.metric ? "value" : "started");
    const rows = ordered(store, name, goesUpAtFirst(store, name), store.listed);
    const show = columnFormat(store.runs.value);
    const parts = [];
    for (const [title, members] of groupsOf(rows)) {
      if (title !== null) parts.push(head(title, members));
      if (title !== null && closed.has(title)) continue;
      for (const row of members.slice(0, Math.max(0, most - parts.length))) parts.push(lineOf(row, show));
    }
    if (parts.length >= most && rows.length > most) parts.push(more(rows.length));
    if (parts.length === 0) parts.push(element("li.more.quiet", {}, store.count ? "No run matches the filters." : "No run has started yet."));
    arrange(list, parts);
    const shown = rows.filter((row) => store.shown[row]).length;
    const words = shown === store.count ? counted(store.count, "run") : `${shown} of ${store.count} runs`;
    say(find("rail-count"), store.selected.size ? `${words}, ${store.selected.size} selected` : words);
  }

  function offer() {
    const columns = columnsOf(store);
    const options = (prefix, some) => some.map((column) => [column.name, prefix + column.title]);
    const grouping = columns.filter(({ name }) => name.startsWith("parameters.") || ["state", "worker"].includes(name));
    fill(sort, [["", "best first"], ...options("by ", columns)], wishes.sort);
    fill(group, [["", "no groups"], ...options("group: ", grouping)], wishes.group);
  }

  /** Return pairs of a title (null without groups) and rows. */
  function groupsOf(rows) {
    if (!group.value) return [[null, rows]];
    const values = store.column(group.value);
    return Map.groupBy(rows, (row) => anything(values[row]) || "not set");
  }

  function head(title, rows) {
    const open = !closed.has(title);
    const press = () => {
      closed[open ? "add" : "delete"](title);
      soon();
    };
    const fold = button(open ? "−" : "+", press, { class: "plain icon-button", "aria-expanded": String(open), "aria-label": `Runs of ${title}` });
    return element("li.group", {}, fold, element("span.name", { title }, title), element("span", {}, String(rows.length)), eyeOf(rows.map((row) => store.runs.id[row]), title));
  }

  function more(all) {
    const press = () => {
      most += MANY;
      soon();
    };
    return element("li.more", {}, button(`Show ${Math.min(MANY, all - most)} more of ${all}`, press));
  }

  function lineOf(row, show) {
    const id = store.runs.id[row];
    if (!lines.has(id)) lines.set(id, newLine(id));
    const line = lines.get(id);
    const [box, spot, state, name, value] = line.children;
    const isSelected = store.selected.has(id);
    line.className = ["run", isSelected && "selected", !store.shown[row] && "off", id === store.best && "best", id === store.hovered && "pointed"].filter(Boolean).join(" ");
    box.checked = isSelected;
    spot.style.backgroundColor = runColour(store, row);
    const attempts = store.runs.attempts[row];
    state.className = `state state-${store.runs.state[row]}`;
    state.title = attempts > 1 ? `${store.runs.state[row]}, attempt ${attempts}` : store.runs.state[row];
    say(state.firstChild, state.title);
    say(name, store.runs.name[row]);
    name.title = store.runs.name[row] === id ? id : `${store.runs.name[row]} (${id})`;
    say(value, show(store.runs.value[row]));
    value.title = fullValue(store.runs.value[row], value.textContent);
    look(line.lastChild, [id], store.runs.name[row]);
    return line;
  }

  function newLine(id) {
    const box = selectionBox(store, id, `Select run ${id} in charts`);
    const name = runLink(home, id);
    name.className = "name";
    const state = element("span.state", {}, element("span.hearing-only"));
    const click = ({ target }) => target.closest("a, button, input") || store.choose(id);
    return element("li", { "data-run": id, click, ...followHover(store, id) }, box, swatch(), state, name, element("span.value"), eyeOf([id], id));
  }

  function eyeOf(ids, title) {
    const eye = iconButton("eye", "", () => store.hide(ids, eye.getAttribute("aria-pressed") === "true"));
    look(eye, ids, title);
    return eye;
  }

  function look(eye, ids, title) {
    const isShown = ids.some((id) => !store.hidden.has(id));
    dress(eye, { "aria-pressed": String(isShown), "aria-label": `Show ${title} in charts`, title: isShown ? "Hide in charts" : "Show in charts" });
    eye.firstChild.className = isShown ? "icon eye" : "icon no-eye";
  }

  for (const event of ["data", "filter", "selection"]) store.addEventListener(event, soon);
  store.addEventListener("hover", () => pointAt(list, lines, store));
  for (const [name, select] of [["sort", sort], ["group", group]]) {
    select.addEventListener("change", () => want({ [name]: select.value }));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
}

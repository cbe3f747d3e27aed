// Menus that close when one clicks elsewhere or presses Escape, and questions before an action.

import { listen } from "./charts/elements.js";
import { button, element } from "./format.js";

export function wireMenus() {
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.activeElement?.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

export function iconButton(icon, label, pressed) {
  return button(element("span", { class: `icon ${icon}` }), pressed, { class: "plain icon-button", "aria-label": label, title: label });
}

/** Let elements be dragged to the place of another one: moved(dragged, other). */
export function wireDrag(parent, selector, moved) {
  let dragged = null;
  const mark = (over) => parent.querySelectorAll(selector).forEach((each) => each.classList.toggle("dropping", each === over));
  const end = () => mark((dragged = null));
  const over = ({ target }) => (dragged === null ? null : target.closest(selector));
  listen(parent, {
    dragstart(event) {
      dragged = event.target.closest?.(selector) ?? null;
      event.dataTransfer.setData("text/plain", "");
    },
    dragover(event) {
      if (!over(event)) return;
      event.preventDefault();
      mark(over(event) === dragged ? null : over(event));
    },
    drop(event) {
      const [one, other] = [dragged, over(event)];
      end();
      if (!other) return;
      event.preventDefault();
      if (one !== other) moved(one, other);
    },
    dragend: end,
  });
}

/** Show a dialog until it is closed; `closed(answer)`. */
export function showDialog(attributes, closed, ...parts) {
  const dialog = element("dialog", {
    ...attributes,
    close() {
      dialog.remove();
      closed(dialog.returnValue);
    },
  }, ...parts);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask a question; returns whether it was answered with `verb`, or, of `fields` {name: text}, the new texts. */
export function ask(title, words, verb, { dangerous = false, fields = {} } = {}) {
  const inputs = Object.entries(fields).map(([name, text]) => {
    const input = name === "notes" ? element("textarea", { name }) : element("input", { name, required: name !== "tags", maxlength: 128, ...(name === "workers" && { type: "number", min: 1, max: 4096 }) });
    input.value = text;
    return input;
  });
  const yes = element("button", { type: "submit", value: "yes", class: dangerous ? "danger" : "main" }, verb);
  const no = element("button", { type: "submit", value: "", formnovalidate: true }, "Back");
  const form = element("form", { method: "dialog" }, element("h2", { id: "question-title" }, title), element("p.quiet", {}, words), ...inputs.map((input) => element("label.field", {}, input.name, input)), element("div.row", {}, no, yes));
  return new Promise((resolve) => {
    const given = () => (inputs.length ? Object.fromEntries(inputs.map(({ name, value }) => [name, value])) : true);
    showDialog({ "aria-labelledby": "question-title" }, (answer) => resolve(answer === "yes" && given()), form);
    (inputs[0] ?? yes).focus();
  });
}

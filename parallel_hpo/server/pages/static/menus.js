// Menus that close when one clicks elsewhere or presses Escape, and questions before an action.

import { element } from "./format.js";

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

/** Return a button whose name is a text for screen readers and a tooltip. */
export function iconButton(icon, label, pressed) {
  const made = element("button", { type: "button", class: "plain icon-button", "aria-label": label, title: label }, element("span", { class: `icon ${icon}` }));
  made.addEventListener("click", pressed);
  return made;
}

/** Ask a question; returns whether it was answered with `verb`, or, of `fields` {name: text}, the new texts. */
export function ask(title, words, verb, { dangerous = false, fields = {} } = {}) {
  const dialog = element("dialog", { "aria-labelledby": "question-title" });
  const inputs = Object.entries(fields).map(([name, text]) => {
    const input = name === "notes" ? element("textarea", { name }) : element("input", { name, required: name !== "tags", maxlength: 128, ...(name === "workers" && { type: "number", min: 1, max: 4096 }) });
    input.value = text;
    return input;
  });
  const yes = element("button", { type: "submit", value: "yes", class: dangerous ? "danger" : "main" }, verb);
  const no = element("button", { type: "submit", value: "", formnovalidate: true }, "Back");
  const form = element("form", { method: "dialog" }, element("h2", { id: "question-title" }, title), element("p", { class: "quiet" }, words), ...inputs.map((input) => element("label", { class: "field" }, input.name, input)), element("div", { class: "row" }, no, yes));
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  (inputs[0] ?? yes).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const isYes = dialog.returnValue === "yes";
      dialog.remove();
      resolve(isYes && inputs.length ? Object.fromEntries(inputs.map(({ name, value }) => [name, value])) : isYes);
    });
  });
}

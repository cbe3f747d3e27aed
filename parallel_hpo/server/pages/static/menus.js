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

/** Ask a question; returns whether it was answered with `verb`, or a field's text if there is a field. */
export function ask(title, words, verb, { dangerous = false, field = null } = {}) {
  const dialog = element("dialog", { "aria-labelledby": "question-title" });
  const input = field === null ? [] : [element("input", { type: "text", value: field, "aria-label": title, class: "wide" })];
  const yes = element("button", { type: "submit", value: "yes", class: dangerous ? "danger" : "main" }, verb);
  const no = element("button", { type: "submit", value: "", formnovalidate: true }, "Back");
  const form = element("form", { method: "dialog" }, element("h2", { id: "question-title" }, title), element("p", { class: "quiet" }, words), ...input, element("div", { class: "row" }, no, yes));
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  (input[0] ?? yes).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const isYes = dialog.returnValue === "yes";
      dialog.remove();
      resolve(isYes && input.length ? input[0].value : isYes);
    });
  });
}

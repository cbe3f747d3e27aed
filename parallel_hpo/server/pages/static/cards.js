// The cards around charts: menu, full screen, downloads, size and order, which this browser keeps.

import { controlOf } from "./charts/elements.js";
import { button, checkbox, element, fill, kept } from "./format.js";
import { iconButton, wireDrag } from "./menus.js";

const LAYOUT = "cards";
const SIZES = [["third", "a third"], ["half", "half"], ["most", "two thirds"], ["whole", "whole width"]];

export class Cards {
  #grid;
  #about;
  #first;
  #menus = new Map();

  constructor(grid, about) {
    this.#grid = grid;
    this.#about = about;
    this.#first = this.#layout();
    for (const card of this.#all()) this.#dress(card);
    this.#restore(kept.read(LAYOUT, []));
    wireDrag(grid, ".card", (one, other) => {
      const all = this.#all();
      other[all.indexOf(one) < all.indexOf(other) ? "after" : "before"](one);
      this.#keep();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#enlarge(null);
    });
  }

  adopt(chart) {
    const card = chart.figure.closest(".card");
    const place = `chart.${this.#about}.${chart.name}`;
    for (const [name, value] of Object.entries(kept.read(place, {}))) {
      if (chart.options.some((option) => option.name === name)) chart.set(name, value);
    }
    chart.addEventListener("options", () => kept.write(place, chart.wanted));
    const options = chart.options.filter((option) => !option.main).map((option) => controlOf(chart, option));
    const downloads = [
      this.#item("Download as PNG", async () => save(await chart.toPNG(), `${chart.name}.png`)),
      this.#item("Download as CSV", () => save(new Blob([chart.toCSV()], { type: "text/csv" }), `${chart.name}.csv`)),
    ];
    this.#menus.get(card).prepend(...options, element("div", { class: "list" }, ...downloads));
  }

  /** Fill a menu that shows and hides cards. */
  fill(menu) {
    const boxes = this.#all().map((card) => {
      const change = ({ target }) => {
        card.hidden = !target.checked;
        this.#keep();
      };
      const label = checkbox(titleOf(card), !card.hidden, change, { name: card.dataset.card });
      card.addEventListener("hide", () => (label.firstChild.checked = false));
      return label;
    });
    const reset = this.#item("Reset the layout", () => {
      this.#restore(this.#first);
      this.#keep();
      for (const box of menu.querySelectorAll("input")) box.checked = true;
    });
    menu.append(...boxes, reset);
  }

  #all() {
    return [...this.#grid.querySelectorAll(".card[data-card]")];
  }

  #dress(card) {
    const title = titleOf(card);
    const change = ({ target }) => {
      card.dataset.size = target.value;
      this.#keep();
    };
    const sizes = element("select", { change });
    fill(sizes, SIZES, card.dataset.size);
    const pop = element(
      "div", { class: "pop" },
      element("label", { class: "control" }, "Width ", sizes),
      element("div", { class: "list" }, this.#item("Move earlier", () => this.#move(card, -1)), this.#item("Move later", () => this.#move(card, 1)), this.#item("Hide", () => this.#hide(card))),
    );
    this.#menus.set(card, pop);
    const summary = element("summary", { class: "button plain icon-button", "aria-label": `Menu of ${title}`, title: "Options and downloads" }, element("span", { class: "icon dots" }));
    const enlarge = iconButton("enlarge", `Full screen: ${title}`, () => this.#enlarge(card.classList.contains("full") ? null : card));
    const heading = card.querySelector("h2");
    heading.draggable = true;
    card.querySelector("header").append(enlarge, element("details", { class: "menu right" }, summary, pop));
  }

  #item(words, pressed) {
    return button(words, ({ target }) => {
      const menu = target.closest("details");
      if (menu) menu.open = false;
      pressed();
    });
  }

  #enlarge(card) {
    for (const each of this.#all()) each.classList.toggle("full", each === card);
  }

  #hide(card) {
    card.hidden = true;
    card.dispatchEvent(new Event("hide"));
    this.#keep();
  }

  #move(card, by) {
    const all = this.#all().filter((each) => !each.hidden);
    const other = all[all.indexOf(card) + by];
    if (other === undefined) return;
    other[by < 0 ? "before" : "after"](card);
    this.#keep();
    card.querySelector("summary").focus();
  }

  #layout() {
    return this.#all().map((card) => [card.dataset.card, card.dataset.size, card.hidden]);
  }

  #keep() {
    kept.write(LAYOUT, this.#layout());
  }

  /** Apply a layout; cards that it doesn't know come last. */
  #restore(layout) {
    for (const [name, size, isHidden] of layout) {
      const card = this.#all().find((each) => each.dataset.card === name);
      if (card === undefined) continue;
      Object.assign(card.dataset, { size });
      card.hidden = isHidden;
      card.querySelector("select").value = size;
      this.#grid.append(card);
    }
    const known = layout.map(([name]) => name);
    for (const card of this.#all()) if (layout.length && !known.includes(card.dataset.card)) this.#grid.append(card);
  }
}

function titleOf(card) {
  return card.querySelector("h2").textContent;
}

function save(blob, name) {
  if (blob === null) return;
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// The cards around charts: menu, full screen, downloads, size and order, which this browser keeps.

import { controlOf } from "./charts/elements.js";
import { button, checkbox, element, fill, kept } from "./format.js";
import { iconButton, wireDrag } from "./menus.js";

const LAYOUT = "cards";
const SIZES = [["third", "a third"], ["half", "half"], ["most", "two thirds"], ["whole", "whole width"]];

export function makeCards(grid, about) {
  const menus = new Map();
  const first = layoutNow();

  function adopt(chart) {
    const card = chart.figure.closest(".card");
    const place = `chart.${about}.${chart.name}`;
    for (const [name, value] of Object.entries(kept.read(place, {}))) {
      if (chart.options.some((option) => option.name === name)) chart.set(name, value);
    }
    chart.addEventListener("options", () => kept.write(place, chart.wanted));
    const options = chart.options.filter((option) => !option.main).map((option) => controlOf(chart, option));
    const downloads = [
      item("Download as PNG", async () => save(await chart.toPNG(), `${chart.name}.png`)),
      item("Download as CSV", () => save(new Blob([chart.toCSV()], { type: "text/csv" }), `${chart.name}.csv`)),
    ];
    menus.get(card).prepend(...options, element("div.list", {}, ...downloads));
  }

  /** Fill a menu that shows and hides cards. */
  function fillMenu(menu) {
    const boxes = allCards().map((card) => {
      const change = ({ target }) => {
        card.hidden = !target.checked;
        keep();
      };
      const label = checkbox(titleOf(card), !card.hidden, change, { name: card.dataset.card });
      card.addEventListener("hide", () => (label.firstChild.checked = false));
      return label;
    });
    const reset = item("Reset the layout", () => {
      restore(first);
      keep();
      for (const box of menu.querySelectorAll("input")) box.checked = true;
    });
    menu.append(...boxes, reset);
  }

  function allCards() {
    return [...grid.querySelectorAll(".card[data-card]")];
  }

  function dress(card) {
    const title = titleOf(card);
    const change = ({ target }) => {
      card.dataset.size = target.value;
      keep();
    };
    const sizes = element("select", { change });
    fill(sizes, SIZES, card.dataset.size);
    const pop = element(
      "div", { class: "pop" },
      element("label.control", {}, "Width ", sizes),
      element("div.list", {}, item("Move earlier", () => move(card, -1)), item("Move later", () => move(card, 1)), item("Hide", () => hide(card))),
    );
    menus.set(card, pop);
    const summary = element("summary.button.plain.icon-button", { "aria-label": `Menu of ${title}`, title: "Options and downloads" }, element("span.icon.dots"));
    const enlarge = iconButton("enlarge", `Full screen: ${title}`, () => enlargeOnly(card.classList.contains("full") ? null : card));
    const heading = card.querySelector("h2");
    heading.draggable = true;
    card.querySelector("header").append(enlarge, element("details.menu.right", {}, summary, pop));
  }

  function item(words, pressed) {
    return button(words, ({ target }) => {
      const menu = target.closest("details");
      if (menu) menu.open = false;
      pressed();
    });
  }

  function enlargeOnly(card) {
    for (const each of allCards()) each.classList.toggle("full", each === card);
  }

  function hide(card) {
    card.hidden = true;
    card.dispatchEvent(new Event("hide"));
    keep();
  }

  function move(card, by) {
    const all = allCards().filter((each) => !each.hidden);
    const other = all[all.indexOf(card) + by];
    if (other === undefined) return;
    other[by < 0 ? "before" : "after"](card);
    keep();
    card.querySelector("summary").focus();
  }

  function layoutNow() {
    return allCards().map((card) => [card.dataset.card, card.dataset.size, card.hidden]);
  }

  function keep() {
    kept.write(LAYOUT, layoutNow());
  }

  /** Apply a layout; cards that it doesn't know come last. */
  function restore(layout) {
    for (const [name, size, isHidden] of layout) {
      const card = allCards().find((each) => each.dataset.card === name);
      if (card === undefined) continue;
      Object.assign(card.dataset, { size });
      card.hidden = isHidden;
      card.querySelector("select").value = size;
      grid.append(card);
    }
    const known = layout.map(([name]) => name);
    for (const card of allCards()) if (layout.length && !known.includes(card.dataset.card)) grid.append(card);
  }

  for (const card of allCards()) dress(card);
  restore(kept.read(LAYOUT, []));
  wireDrag(grid, ".card", (one, other) => {
    const all = allCards();
    other[all.indexOf(one) < all.indexOf(other) ? "after" : "before"](one);
    keep();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") enlargeOnly(null);
  });
  return { adopt, fillMenu };
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

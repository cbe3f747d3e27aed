// The runs of a sweep as list, charts and table, which share filters and selection.

import { makeCards } from "./cards.js";
import { mountSweep } from "./charts/index.js";
import { comparison } from "./compare.js";
import { wireFilters } from "./filters.js";
import { find, kept } from "./format.js";
import { wireMenus } from "./menus.js";
import { runList } from "./runlist.js";
import { runTable } from "./table.js";

const UNSEEN_MS = 300;

/** Show a store's runs; `home`: the project's address, null without pages of runs. Returns a function that draws the charts. */
export function mountWorkspace(store, home) {
  const panels = [runTable(store, home), comparison(store, home)];
  runList(store, home);
  const cards = makeCards(find("cards"), home);
  cards.fillMenu(document.querySelector("#layout .pop"));
  wireMenus();
  wireTabs(() => panels.forEach((refresh) => refresh()));
  wireRail();
  return async (base) => {
    await isSeen();
    wireFilters(store);
    mountSweep(find("cards"), store, base, { home, bare: true, made: (chart) => cards.adopt(chart) });
  };
}

/** Draw the list before the charts, which take a while for many runs. A hidden page draws nothing and doesn't wait. */
function isSeen() {
  const drawn = new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const enough = new Promise((resolve) => setTimeout(resolve, UNSEEN_MS));
  return Promise.race([drawn, enough]);
}

function wireTabs(changed) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const choose = (chosen, focuses) => {
    for (const tab of tabs) {
      const isIt = tab === chosen;
      tab.setAttribute("aria-selected", String(isIt));
      tab.tabIndex = isIt ? 0 : -1;
      find(tab.getAttribute("aria-controls")).hidden = !isIt;
    }
    find("layout").hidden = chosen !== tabs[0];
    if (focuses) chosen.focus();
    changed();
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      choose(tab, false);
      history.replaceState(null, "", tab === tabs[0] ? location.pathname + location.search : `#${tab.id.replace("tab-", "")}`);
    });
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) choose(tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length], true);
    });
  }
  choose(tabs.find((tab) => tab.id === `tab-${location.hash.slice(1)}`) ?? tabs[0], false);
}

/** The list of runs: beside the charts, or a drawer on a small screen. */
function wireRail() {
  const [rail, work, open, close] = ["rail", "work", "rail-open", "rail-close"].map((id) => find(id));
  const isDrawer = () => matchMedia("(max-width: 60rem)").matches;
  const show = (isShown) => {
    if (!isDrawer()) kept.write("rail", isShown);
    rail.classList.toggle("open", isShown && isDrawer());
    rail.hidden = !isShown && !isDrawer();
    work.classList.toggle("alone", rail.hidden);
    open.classList.toggle("shown", rail.hidden);
    open.setAttribute("aria-expanded", String(isShown));
  };
  open.addEventListener("click", () => {
    show(true);
    close.focus();
  });
  close.addEventListener("click", () => {
    show(false);
    open.focus();
  });
  rail.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && rail.classList.contains("open")) close.click();
  });
  if (!isDrawer()) show(kept.read("rail", true));
}

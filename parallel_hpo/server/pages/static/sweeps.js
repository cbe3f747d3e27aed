// Sweeps as cards, with a search; those that are ticked are compared: the course of the best value, and what differs.

import { SweepCourses } from "./charts/sweeps.js";
import { counted, exactText } from "./charts/numbers.js";
import { sideBySide } from "./compare.js";
import { arrange, drawing, duration, element, fill, find, number, on, say, time } from "./format.js";
import { fetchJson } from "./live.js";
import { countsOf, drawBar, endedOf, ENDS, leftWords, progressWords } from "./progress.js";
import { Store } from "./store.js";

const MOST_COMPARED = 8;

export function makeSweeps(base, { namesProjects }) {
  let cards = new Map();
  let known = [];
  /** The ticked sweeps' stores and configurations by id. */
  const ticked = new Map();
  let chart = null;

  async function show(sweeps) {
    const isOver = ({ state }) => ENDS.includes(state);
    known = [...sweeps].sort((one, other) => isOver(one) - isOver(other));
    cards = new Map(known.map((sweep) => [sweep.id, cards.get(sweep.id) ?? newCard(sweep)]));
    for (const sweep of known) fillCard(cards.get(sweep.id), sweep);
    for (const id of ticked.keys()) if (!cards.has(id)) ticked.delete(id);
    arrange(find("sweeps"), [...cards.values()]);
    offerStates();
    filter();
    await follow();
  }

  function newCard(sweep) {
    const change = ({ target }) => pick(sweep, target);
    const box = element("input", { type: "checkbox", "aria-label": `Compare ${sweep.name}`, title: "Tick two or more sweeps to compare them", change });
    const project = element("a", { href: homeOf(sweep) }, `${sweep.entity}/${sweep.project}`);
    const about = element("p.quiet.small", {}, ...(namesProjects ? [project, " · "] : []), `${sweep.method} · ${time(sweep.created)}`);
    const head = element("div.row", {}, box, element("a.grow.name", { href: pageOf(sweep) }), element("span.badge"));
    const best = element("p.best", {}, element("strong"), " ", element("span.quiet"));
    const curve = drawing("svg", { class: "curve", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, drawing("path", { "vector-effect": "non-scaling-stroke" }));
    const facts = element("div.row.small", {}, element("span.grow"), element("span.quiet"));
    return element("li.card", { "data-sweep": sweep.id }, head, about, element("div.row", {}, best, curve), element("div.bar", { role: "img" }), facts);
  }

  function fillCard(card, sweep) {
    const [head, , { children: [best, curve] }, bar, facts] = card.children;
    const state = sweep.state.toLowerCase();
    say(head.children[1], sweep.name);
    head.children[1].title = sweep.name;
    head.children[2].className = `badge state-${state}`;
    say(head.children[2], state);
    say(best.firstChild, sweep.best === null ? "–" : number(sweep.best));
    best.firstChild.title = sweep.best ?? "";
    best.title = sweep.metric?.name ?? "";
    say(best.lastChild, sweep.metric ? (sweep.best === null ? `no ${sweep.metric.name}${ENDS.includes(sweep.state) ? "" : " yet"}` : sweep.metric.name) : "no metric");
    curve.firstChild.setAttribute("d", pathOf(sweep.curve, sweep.runs.finished));
    drawBar(bar, sweep.runs, sweep.count);
    say(facts.firstChild, progressWords(sweep.runs, sweep.count));
    say(facts.lastChild, timeWords(sweep));
  }

  function offerStates() {
    const states = [...new Set(known.map(({ state }) => state.toLowerCase()))].sort();
    fill(find("sweeps-state"), [["", "all states"], ...states.map((state) => [state, state])]);
  }

  function filter() {
    const words = find("sweeps-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = find("sweeps-state").value;
    let shown = 0;
    for (const { id, name, entity, project, method, metric, state } of known) {
      const text = [id, name, `${entity}/${project}`, method, metric?.name ?? "", state].join(" ").toLowerCase();
      const isShown = words.every((word) => text.includes(word)) && (!wanted || wanted === state.toLowerCase());
      cards.get(id).hidden = !isShown;
      shown += isShown;
    }
    const all = counted(known.length, "sweep");
    say(find("sweeps-count"), shown === known.length ? all : `${shown} of ${all}`);
  }

  function pick(sweep, box) {
    if (!box.checked) ticked.delete(sweep.id);
    else if (ticked.size >= MOST_COMPARED) box.checked = false;
    else ticked.set(sweep.id, { store: new Store(), configuration: null, base: base.slice(0, "/pages/data".length) + pageOf(sweep) });
    follow();
  }

  /** Read what has changed of the ticked sweeps, and show it. */
  async function follow() {
    find("sweeps-compared").hidden = ticked.size === 0;
    const read = [...ticked.values()].map(async (picked) => {
      picked.configuration ??= await fetchJson(`${picked.base}/configuration`);
      picked.store.merge(await fetchJson(`${picked.base}?since=${encodeURIComponent(picked.store.revision)}`));
    });
    await Promise.all(read);
    compare();
  }

  function compare() {
    const picked = [...ticked.values()].filter(({ store }) => store.sweep !== null);
    say(find("sweeps-words"), picked.length < 2 ? "Tick another sweep to compare it." : "");
    if (picked.length === 0) return;
    chart ??= new SweepCourses(find("sweeps-chart"));
    chart.show(picked.map(({ store }) => store));
    const rows = factsOf(picked).filter(([, texts]) => find("sweeps-all").checked || picked.length === 1 || new Set(texts).size > 1);
    const titles = picked.map(({ store: { sweep } }, place) => [chart.colourOf(place), sweep.name, element("span", {}, sweep.name)]);
    sideBySide(find("sweeps-table"), titles, rows);
  }

  for (const id of ["sweeps-text", "sweeps-state"]) find(id).addEventListener("input", filter);
  on("sweeps-all", "change", compare);
  return { show, isLive: () => known.some(({ state }) => !ENDS.includes(state)) };
}

function homeOf({ entity, project }) {
  return `/${encodeURIComponent(entity)}/${encodeURIComponent(project)}`;
}

function pageOf(sweep) {
  return `${homeOf(sweep)}/sweeps/${encodeURIComponent(sweep.id)}`;
}

/** Return the path of the best value so far over the finished runs; empty for a single one. */
function pathOf(curve, finished) {
  if (curve.length === 0 || finished < 2) return "";
  const values = curve.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (place) => ((place - 1) / (finished - 1)) * 100;
  const y = (value) => 19 - ((value - low) / (high - low || 1)) * 18;
  const [first, ...others] = curve;
  return `M${x(first[0])} ${y(first[1])}${others.map(([place, value]) => `H${x(place)}V${y(value)}`).join("")}H100`;
}

function timeWords(sweep) {
  const isOver = ENDS.includes(sweep.state) && !sweep.runs.running;
  if (sweep.begun === null) return isOver ? "" : "not started";
  const took = duration((isOver ? sweep.heard : Date.now() / 1000) - sweep.begun);
  return isOver ? took : `${took}, left: ${leftWords(sweep.count, endedOf(sweep.runs), sweep.mean, sweep.runs.running ?? 0)}`;
}

function factsOf(picked) {
  const names = [...new Set(picked.flatMap(({ configuration }) => Object.keys(configuration)))];
  const best = ({ store }) => (store.best === null ? "–" : number(store.runs.value[store.row(store.best)]));
  return [
    ["best", picked.map(best)],
    ["state", picked.map(({ store }) => store.sweep.state.toLowerCase())],
    ["runs", picked.map(({ store }) => progressWords(countsOf(store.runs.state), store.sweep.count))],
    ...names.map((name) => [name, picked.map(({ configuration }) => exactText(configuration[name]))]),
  ];
}

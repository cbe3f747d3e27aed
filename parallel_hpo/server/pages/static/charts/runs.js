/** What charts need to know of a store's runs: the metric, ranks, names, colours, and the text under the pointer. */

import { nearestPoint, paintCrosses, paintPoints, paintRing } from "./marks.js";
import { asText, isMissing, short } from "./numbers.js";
import { colours, palette, qualities } from "./theme.js";

export const MOST_COLOURED = 30; // of more runs, the best have colours
const BEST = 10;
const OPEN = new Set(["running", "pending"]);
const MOST_FACTS = 12;
const SHADES = 8; // of a legend, blended
const COLOURED = new WeakMap(); // by store

export function isFailed(state) {
  return state === "failed" || state === "crashed";
}

/** Return whether a run in this state goes on: its value may change, and doesn't extend an axis. */
export function isOpen(state) {
  return OPEN.has(state);
}

export function metricName(store) {
  return store.metric?.name ?? "value";
}

export function variedOf(store) {
  return store.parameters.filter((parameter) => parameter.varied);
}

/** Return the logged values of summaries as choices of columns: [[column, text]]. */
export function loggedOf(store) {
  return store.loggedBesideMetric.map((name) => [`logged.${name}`, name]);
}

/** Return the rows with a value, without failed runs. */
export function worstFirst(store) {
  const values = store.column("value");
  const way = store.minimizes ? 1 : -1;
  return store.rows((row) => !isMissing(values[row]) && !isFailed(store.runs.state[row])).sort((one, other) => way * (values[other] - values[one]));
}

/** Return each row's quality from 0 to 1 (best); null without a value or for failed runs. */
export function ranked(store) {
  const rows = worstFirst(store);
  const ranks = new Array(store.count).fill(null);
  rows.forEach((row, rank) => (ranks[row] = rows.length === 1 ? 1 : rank / (rows.length - 1)));
  return ranks;
}

/** Return the legend of the colours from the worst to the best value. */
export function qualityLegend(store) {
  const values = worstFirst(store).map((row) => store.runs.value[row]);
  if (values.length < 2) return [];
  const [worst, middle, best] = [values[0], values[(values.length - 1) >> 1], values.at(-1)].map(short);
  return [{ shades: qualities(SHADES), text: `${worst} to ${best} (best), median ${middle}` }];
}

export function nameOf(store, row) {
  const [name, id] = [store.runs.name[row], store.runs.id[row]];
  return name && name !== id ? `${name} (${id})` : id;
}

/** Listen to "data" events that bring new or changed runs. */
export function onNews(heard) {
  return ({ detail }) => {
    if (!detail || detail.complete || detail.changed) heard();
  };
}

/** Return a run's colour, the same in all charts and lists: grey for all but the best and the selected of many runs. */
export function runColour(store, row) {
  const slot = slotsOf(store).get(store.runs.id[row]);
  return slot === undefined ? colours().muted : palette()[slot];
}

export function isColoured(store, row) {
  return slotsOf(store).has(store.runs.id[row]);
}

/** Return places in the palette by run id; a run keeps its place as long as it has one. */
function slotsOf(store) {
  let kept = COLOURED.get(store);
  if (!kept) {
    COLOURED.set(store, (kept = { slots: new Map(), stale: true }));
    for (const event of ["data", "filter", "selection"]) store.addEventListener(event, () => (kept.stale = true));
  }
  if (kept.stale) Object.assign(kept, { slots: newSlots(store, kept.slots), stale: false });
  return kept.slots;
}

function newSlots(store, before) {
  const rows = colouredRows(store);
  const ids = rows.map((row) => store.runs.id[row]);
  const slots = new Map(ids.filter((id) => before.has(id)).map((id) => [id, before.get(id)]));
  const used = new Set(slots.values());
  ids.forEach((id, index) => {
    if (slots.has(id)) return;
    let slot = rows[index] % MOST_COLOURED;
    while (used.has(slot) && used.size < MOST_COLOURED) slot = (slot + 1) % MOST_COLOURED;
    slots.set(id, slot);
    used.add(slot);
  });
  return slots;
}

function colouredRows(store) {
  const { shownRows: shown, selectedRows } = store;
  const chosen = selectedRows.slice(0, MOST_COLOURED);
  if (shown.length <= MOST_COLOURED) return [...new Set([...chosen, ...shown])];
  const best = worstFirst(store).filter((row) => store.shown[row]).slice(-BEST);
  return [...new Set([...chosen, ...best])];
}

/** Return the text under the pointer; `more`: facts, [[name, value]], that come first. */
export function tipOf(store, row, more = []) {
  const { id, name, state, value } = store.runs;
  const own = [[metricName(store), short(value[row])], ["state", state[row]]].filter(([label]) => more.every(([other]) => other !== label));
  const parameters = variedOf(store).map((parameter) => [parameter.name, asText(store.column(`parameters.${parameter.name}`)[row])]);
  const facts = [...more, ...own, ...parameters.slice(0, MOST_FACTS)];
  if (parameters.length > MOST_FACTS) facts.push(["", `and ${parameters.length - MOST_FACTS} more parameters`]);
  return { id: id[row], title: name[row] ?? id[row], colour: runColour(store, row), facts };
}

/** Return what a plot's pointer needs of a run beside its place: {id, colour, tip, pick}. */
export function hitOf(store, row, more) {
  const id = store.runs.id[row];
  return { id, colour: runColour(store, row), tip: tipOf(store, row, more), pick: () => store.choose(id) };
}

export function hoveredRow(store) {
  const row = store.hovered === null ? undefined : store.row(store.hovered);
  return row !== undefined && store.shown[row] ? row : null;
}

/** Return a spec's parts for points, {row, x, y} each; `facts(point)`: what comes first in the text beside the pointer. */
export function pointing(store, points, facts) {
  return {
    paintOver(context, place) {
      const hovered = points.find(({ row }) => row === hoveredRow(store));
      if (hovered) paintRing(context, hovered, place, runColour(store, hovered.row));
    },
    near(place, left, top) {
      const hit = nearestPoint(points, place, left, top);
      return hit && { ...hit, ...hitOf(store, hit.point.row, facts(hit.point)) };
    },
  };
}

/** Draw the points: hidden runs faint, failed ones as crosses, then `between`, then those with a colour. */
export function paintRuns(context, place, store, points, between = () => {}) {
  const known = colours();
  const shown = points.filter(({ row }) => store.shown[row]);
  const [failed, others] = [true, false].map((wanted) => shown.filter(({ row }) => isFailed(store.runs.state[row]) === wanted));
  paintPoints(context, points.filter(({ row }) => !store.shown[row]), place, known.line, 2.5);
  paintCrosses(context, failed, place, known.bad, 3);
  paintPoints(context, others.filter(({ row }) => !isColoured(store, row)), place, known.muted, 2.5, 0.6);
  between(known);
  for (const point of others.filter(({ row }) => isColoured(store, row))) {
    paintPoints(context, [point], place, runColour(store, point.row), 3.5);
    if (store.selected.has(store.runs.id[point.row])) paintRing(context, point, place, runColour(store, point.row));
  }
}

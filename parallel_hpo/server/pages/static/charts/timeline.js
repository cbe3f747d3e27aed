/** Workers and their devices over time: runs as bars; restarts, retries and quarantines as marks. */

import { duration } from "../format.js";
import { Chart, EARLIER } from "./chart.js";
import { hatch } from "./marks.js";
import { clock, counted, extent } from "./numbers.js";
import { onNews, runColour, tipOf } from "./runs.js";
import { colours, fontOf, stateColour } from "./theme.js";

const [LANE, MOST_LANE] = [22, 40]; // CSS pixels per worker
const AROUND = 64; // CSS pixels for the axis
const AT_MOST_EACH_MS = 2000; // minimum time between updates if runs are new or have changed
const GROWS_EACH_MS = 5000; // time between updates if runs only continue
const MOST_ADDED = 0.25; // fraction of the time so far by which runs that go on extend the axis
const MARKS = { restart: "▲", retry: "↻", quarantine: "■" };
const PLURALS = { restart: "restarts", retry: "retries", quarantine: "quarantines" };
const COLOURS = [["outcome", "outcome"], ["run", "run"]];
const OPTIONS = [
  { name: "colour", label: "Colour by", kind: "choice", value: "outcome", choices: COLOURS },
  { ...EARLIER, value: false },
];

export class Timeline extends Chart {
  constructor(figure, context) {
    super(figure, { name: "timeline", title: "Workers and devices", options: OPTIONS }, context);
    Object.assign(this, { source: context.source, timeline: null, asked: -Infinity, timer: 0 });
    this.drawInPlot({ data: onNews(() => this.readIn(AT_MOST_EACH_MS)) });
    this.follow({ data: () => this.goesOn() && this.readIn(0) });
    this.read();
  }

  async read() {
    this.asked = performance.now();
    try {
      this.timeline = await this.source.timeline({ seen: this.store.revision });
    } catch (error) {
      this.say(`The timeline could not be read: ${error.message}.`);
    }
    this.again();
  }

  readIn(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), Math.max(0, this.asked + pause - performance.now()));
  }

  goesOn() {
    return this.timeline?.bars.some(({ end }) => end === null) && performance.now() - this.asked > GROWS_EACH_MS;
  }

  paint() {
    if (!this.timeline) return;
    const { now, lanes, bars, marks } = this.timeline;
    const ended = bars.map((bar) => ({ ...bar, until: bar.end ?? now }));
    this.describe(ended);
    this.showLegend(ended);
    if (ended.length + marks.length === 0) return this.plot.clear();
    const names = lanes.map(laneName);
    return this.plot.draw({
      height: Math.max(lanes.length * LANE + AROUND, Math.min(lanes.length * MOST_LANE + AROUND, this.host.clientHeight)),
      label: this.words.textContent,
      x: { ...reach(bars, marks, now), kind: "time" },
      y: { low: -0.5, high: lanes.length - 0.5, kind: "names", names, reversed: true, fixed: true },
      paint: (context, place) => paintLanes(context, place, this.store, { lanes, ended, marks }, this.wanted),
      paintOver: (context, place) => paintHovered(context, place, this.store, ended),
      near: (place, left, top) => found(place, left, top, ended, marks, (hit) => this.told(hit, names)),
    });
  }

  told({ bar, mark, lane }, names) {
    if (mark) return { tip: { title: mark.kind, facts: [["", mark.text ?? ""], ["when", clock(mark.at)], ["worker", names[lane]]] } };
    const lasts = bar.end === null ? "so far" : "";
    const facts = [["outcome", outcomeOf(bar)], ["attempt", String(bar.attempt)], ["took", `${duration(bar.until - bar.start)} ${lasts}`],
      ["from", clock(bar.start)], ["worker", names[lane]]];
    const row = this.store.row(bar.run);
    const tip = row === undefined ? { id: bar.run, title: bar.run, facts } : tipOf(this.store, row, facts);
    return { id: bar.run, tip, pick: () => this.store.choose(bar.run) };
  }

  showLegend(bars) {
    const known = colours();
    const outcomes = [...new Set(bars.map(outcomeOf))].sort();
    const many = (outcome) => bars.filter((bar) => outcomeOf(bar) === outcome).length;
    this.explain(outcomes.map((outcome) => ({ text: `${many(outcome)} ${outcome}`, colour: stateColour(outcome, known), hatched: isCut(outcome) })));
  }

  describe(bars) {
    const { lanes, marks } = this.timeline;
    if (!bars.length) return this.say("No run has started yet.");
    const [begun, over] = extent(bars.flatMap(({ start, until }) => [start, until]));
    const share = busyTime(bars) / (Math.max(over - begun, 1e-9) * lanes.length);
    const kinds = Object.entries(MARKS).map(([kind, mark]) => [marks.filter((one) => one.kind === kind).length, kind, mark]);
    const said = kinds.filter(([count]) => count).map(([count, kind, mark]) => `${count} ${count > 1 ? PLURALS[kind] : kind} (${mark})`);
    return this.say(
      `${counted(lanes.length, "worker")}, ${counted(bars.length, "attempt")} in ${duration(over - begun)}; busy ${Math.round(share * 100)} % of the time` +
        `${said.length ? `; ${said.join(", ")}` : ""}.`,
    );
  }

  rows() {
    const lanes = this.timeline?.lanes ?? [];
    const lines = (this.timeline?.bars ?? []).map((bar) => [laneName(lanes[bar.lane]), bar.run, bar.attempt, bar.start, bar.end, outcomeOf(bar)]);
    return [["worker", "run", "attempt", "start", "end", "outcome"], ...lines];
  }
}

/** Return the seconds in which lanes have a bar; in a lane of several agents, bars overlap. */
function busyTime(bars) {
  const counted = new Map(); // by lane, until when
  return [...bars].sort((one, other) => one.start - other.start).reduce((sum, { lane, start, until }) => {
    const from = Math.max(start, counted.get(lane) ?? start);
    counted.set(lane, Math.max(until, from));
    return sum + Math.max(0, until - from);
  }, 0);
}

function outcomeOf({ end, outcome }) {
  return end === null ? "running" : (outcome ?? "ended");
}

function isCut(outcome) {
  return outcome !== "finished" && outcome !== "running" && outcome !== "ended" && outcome !== "pending";
}

function laneName({ name, device }) {
  return device ? `${name} · ${device}` : name;
}

/** Return the range of times; attempts that go on extend it a little. */
function reach(bars, marks, now) {
  const [low, last] = extent([...bars.flatMap(({ start, end }) => [start, end ?? start]), ...marks.map(({ at }) => at)]);
  const goesOn = bars.some(({ end }) => end === null);
  const anyEnded = bars.some(({ end }) => end !== null);
  const most = anyEnded ? last + (last - low) * MOST_ADDED : now;
  const high = goesOn ? Math.max(last, Math.min(now, most)) : last;
  return { low, high: Math.max(high, low + 1) };
}

function paintLanes(context, place, store, { lanes, ended, marks }, wanted) {
  const known = colours();
  const half = laneHalf(place);
  lanes.forEach((_, lane) => {
    Object.assign(context, { fillStyle: known.line, globalAlpha: 0.3 });
    context.fillRect(place.box.left, place.y(lane) - half, place.box.width, half * 2);
  });
  const last = new Map(ended.map((bar) => [bar.run, bar.attempt])); // bars of a run come in order
  for (const bar of ended) {
    const row = store.row(bar.run);
    const dimmed = (row !== undefined && !store.shown[row]) || (wanted.earlier && bar.attempt < last.get(bar.run));
    const colour = wanted.colour === "run" && row !== undefined ? runColour(store, row) : stateColour(outcomeOf(bar), known);
    const box = boxOf(bar, place, half);
    Object.assign(context, { fillStyle: colour, globalAlpha: dimmed ? 0.25 : 0.9 });
    context.fillRect(...box);
    if (isCut(outcomeOf(bar))) hatch(context, box, known.surface);
    if (store.selected.has(bar.run)) outline(context, box, known.text);
  }
  context.globalAlpha = 1;
  paintMarks(context, place, marks, known);
}

function laneHalf(place) {
  return Math.abs(place.y(1) - place.y(0)) * 0.36;
}

function boxOf({ start, until, lane }, place, half) {
  const left = place.x(start);
  return [left, place.y(lane) - half, Math.max(place.x(until) - left - 1, 1.5), half * 2];
}

function outline(context, box, colour) {
  Object.assign(context, { globalAlpha: 1, strokeStyle: colour, lineWidth: 2 });
  context.strokeRect(...box);
}

function paintHovered(context, place, store, bars) {
  const half = laneHalf(place);
  for (const bar of bars) if (bar.run === store.hovered) outline(context, boxOf(bar, place, half), colours().text);
}

function paintMarks(context, place, marks, known) {
  Object.assign(context, { font: fontOf(12), textAlign: "center", textBaseline: "middle", lineWidth: 3 });
  for (const { lane, at, kind } of marks) {
    const [x, y] = [place.x(at), place.y(lane)];
    Object.assign(context, { strokeStyle: known.surface, fillStyle: kind === "quarantine" ? known.bad : known.text });
    context.strokeText(MARKS[kind] ?? "●", x, y);
    context.fillText(MARKS[kind] ?? "●", x, y);
  }
}

function found(place, left, top, bars, marks, told) {
  const mark = marks.find(({ lane, at }) => Math.hypot(place.x(at) - left, place.y(lane) - top) < 8);
  if (mark) return { x: place.x(mark.at), y: place.y(mark.lane), ...told({ mark, lane: mark.lane }) };
  const half = laneHalf(place);
  const bar = bars.findLast(
    ({ lane, start, until }) => Math.abs(place.y(lane) - top) < half && place.x(start) - 1 <= left && left <= place.x(until) + 1,
  );
  return bar ? { x: left, y: place.y(bar.lane), ...told({ bar, lane: bar.lane }) } : null;
}

/** Workers and their devices over time: runs as bars; restarts, retries and quarantines as marks. */

import { Chart } from "./chart.js";
import { element, oncePerFrame } from "./elements.js";
import { clock, duration } from "./numbers.js";
import { plot } from "./plot.js";
import { onNews } from "./runs.js";
import { colours, stateColour } from "./theme.js";

const LANE = 30; // CSS pixels per worker
const AROUND = 84; // CSS pixels for the axis
const AT_MOST_EACH_MS = 2000; // minimum time between updates if runs are new or have changed
const GROWS_EACH_MS = 5000; // time between updates if runs only continue
const MARKS = { restart: "▲", retry: "↻", quarantine: "■" };
const PLURALS = { restart: "restarts", retry: "retries", quarantine: "quarantines" };

export class Timeline extends Chart {
  constructor(figure, context) {
    super(figure, { name: "timeline", title: "Workers and devices" }, context);
    Object.assign(this, { source: context.source, timeline: null, asked: -Infinity, timer: 0, closed: false });
    const repaint = oncePerFrame(() => this.drawn?.repaint());
    this.ends.push(repaint.cancel);
    this.follow({ data: onNews(() => this.readIn(AT_MOST_EACH_MS)), filter: repaint, selection: repaint });
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
    if (!this.closed) this.again();
  }

  readIn(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), Math.max(0, this.asked + pause - performance.now()));
  }

  goesOn() {
    return this.timeline?.bars.some(({ end }) => end === null) && performance.now() - this.asked > GROWS_EACH_MS;
  }

  paint() {
    this.drawn?.destroy();
    this.drawn = this.timeline && paintTimeline(this, this.store, this.timeline);
  }

  rows() {
    const lanes = this.timeline?.lanes ?? [];
    const lines = (this.timeline?.bars ?? []).map((bar) => [laneName(lanes[bar.lane]), bar.run, bar.attempt, bar.start, bar.end, outcomeOf(bar)]);
    return [["worker", "run", "attempt", "start", "end", "outcome"], ...lines];
  }

  destroy() {
    this.closed = true;
    clearTimeout(this.timer);
    this.drawn?.destroy();
    super.destroy();
  }
}

function paintTimeline(figure, store, { now, lanes, bars, marks }) {
  const ended = bars.map((bar) => ({ ...bar, until: bar.end ?? now }));
  const times = [...ended.flatMap(({ start, until }) => [start, until]), ...marks.map(({ at }) => at)];
  describe(figure, lanes, ended, marks);
  showLegend(figure, ended);
  if (!times.length) {
    figure.host.replaceChildren();
    return null;
  }
  const [low, high] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
  const names = lanes.map(laneName);
  return plot(figure, {
    height: lanes.length * LANE + AROUND,
    label: figure.words.textContent,
    x: { low, high: Math.max(high, low + 1), time: true },
    y: { low: -0.5, high: lanes.length - 0.5, names, reversed: true },
    paint: (context, place) => paintLanes(context, place, store, { lanes, ended, marks }),
    near(place, left, top) {
      const hit = found(place, left, top, ended, marks);
      return hit && { ...hit, lines: linesOf(hit, names), pick: hit.bar && (() => store.select([hit.bar.run])) };
    },
  });
}

/** Add the legend of outcomes above the picture. */
function showLegend(figure, bars) {
  const known = colours();
  const outcomes = [...new Set(bars.map(outcomeOf))].sort();
  const entries = outcomes.map((outcome) => {
    const swatch = element("span", { class: "chart-swatch", "aria-hidden": "true" });
    swatch.style.background = stateColour(outcome, known);
    return element("li", {}, swatch, `${bars.filter((bar) => outcomeOf(bar) === outcome).length} ${outcome}`);
  });
  figure.controls.replaceChildren(element("ul", { class: "chart-legend", "aria-label": "Attempts by outcome" }, ...entries));
}

function outcomeOf({ end, outcome }) {
  return end === null ? "running" : (outcome ?? "ended");
}

function laneName({ name, device }) {
  return device ? `${name} · ${device}` : name;
}

function paintLanes(context, place, store, { lanes, ended, marks }) {
  const known = colours();
  const half = LANE * 0.36 * place.ratio;
  lanes.forEach((_, lane) => {
    context.fillStyle = known.line;
    context.globalAlpha = 0.35;
    context.fillRect(place.box.left, place.y(lane) - half, place.box.width, half * 2);
  });
  for (const bar of ended) {
    const [left, right, middle] = [place.x(bar.start), place.x(bar.until), place.y(bar.lane)];
    const row = store.row(bar.run);
    const shown = row === undefined || row < 0 || store.shown[row];
    context.globalAlpha = shown ? 0.85 : 0.25;
    context.fillStyle = stateColour(outcomeOf(bar), known);
    context.fillRect(left, middle - half, Math.max(right - left - 1, 1), half * 2);
    if (store.selected.has(bar.run)) outline(context, known.text, left, middle - half, right - left, half * 2, place.ratio);
  }
  context.globalAlpha = 1;
  paintMarks(context, place, marks, known);
}

function outline(context, colour, left, top, width, height, ratio) {
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = 2 * ratio;
  context.strokeRect(left, top, width, height);
}

function paintMarks(context, place, marks, known) {
  context.font = `${12 * place.ratio}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3 * place.ratio;
  for (const { lane, at, kind } of marks) {
    const [x, y] = [place.x(at), place.y(lane)];
    context.strokeStyle = known.surface;
    context.fillStyle = kind === "quarantine" ? known.bad : known.text;
    context.strokeText(MARKS[kind] ?? "●", x, y);
    context.fillText(MARKS[kind] ?? "●", x, y);
  }
}

/** Return the mark or the bar at a position of the canvas. */
function found(place, left, top, bars, marks) {
  const reach = 8 * place.ratio;
  const mark = marks.find(({ lane, at }) => Math.hypot(place.x(at) - left, place.y(lane) - top) < reach);
  if (mark) return { mark, lane: mark.lane, x: place.x(mark.at), y: place.y(mark.lane) };
  const half = LANE * 0.4 * place.ratio;
  const bar = bars.findLast(
    ({ lane, start, until }) => Math.abs(place.y(lane) - top) < half && place.x(start) - 1 <= left && left <= place.x(until) + 1,
  );
  return bar ? { bar, lane: bar.lane, x: left, y: place.y(bar.lane) } : null;
}

function linesOf({ bar, mark, lane }, names) {
  if (mark) return [mark.kind, mark.text ?? "", `${names[lane]}, ${clock(mark.at)}`];
  const attempt = bar.attempt > 1 ? `, attempt ${bar.attempt}` : "";
  return [`run ${bar.run}`, outcomeOf(bar) + attempt, `${duration(bar.until - bar.start)} from ${clock(bar.start)}`, names[lane]];
}

function describe(figure, lanes, bars, marks) {
  if (!bars.length) return figure.say("No run has started yet.");
  const begun = bars.reduce((first, { start }) => Math.min(first, start), Infinity);
  const over = bars.reduce((last, { until }) => Math.max(last, until), 0);
  const busy = bars.reduce((sum, { start, until }) => sum + until - start, 0);
  const share = Math.min(1, busy / (Math.max(over - begun, 1e-9) * lanes.length));
  const kinds = Object.entries(MARKS).map(([kind, mark]) => [marks.filter((one) => one.kind === kind).length, kind, mark]);
  const said = kinds.filter(([count]) => count).map(([count, kind, mark]) => `${count} ${count > 1 ? PLURALS[kind] : kind} (${mark})`);
  return figure.say(
    `${lanes.length} workers, ${bars.length} attempts in ${duration(over - begun)}; busy ${Math.round(share * 100)} % of the time` +
      `${said.length ? `; ${said.join(", ")}` : ""}.`,
  );
}

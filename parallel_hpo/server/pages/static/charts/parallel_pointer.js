/** Dragging along an axis of the parallel coordinates brushes it, hovering shows the run. */

import { listen } from "./elements.js";
import { hitOf } from "./runs.js";

const AXIS_REACH = 14; // maximum distance from an axis, in CSS pixels
const LINE_REACH = 8; // maximum distance from a line, in CSS pixels
const CLICK = 4; // a shorter drag is a click, which removes the axis's brush or selects a run

export function followPointer(chart) {
  const canvas = chart.over;
  let drag = null;
  listen(canvas, {
    pointerdown(event) {
      const index = axisAt(chart, event.offsetX);
      if (index === null || event.button) return;
      drag = { index, from: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();
    },
    pointermove(event) {
      if (!drag) return hover(chart, event);
      drag.moved ||= Math.abs(event.offsetY - drag.from) > CLICK;
      if (drag.moved) brush(chart, drag, event.offsetY);
    },
    pointerup(event) {
      if (drag && !drag.moved) {
        chart.brushes.delete(chart.axes[drag.index].name);
        chart.brushed(chart.axes[drag.index]);
      } else if (!drag) chart.pick(event, hitAt(chart, event));
      drag = null;
    },
    pointercancel: () => (drag = null),
    pointerleave: (event) => chart.hover(canvas, event, null),
    dblclick: () => chart.clear(),
  });
}

function axisAt(chart, x) {
  const index = chart.axes.findIndex((_, number) => Math.abs(chart.at.x(number) - x) <= AXIS_REACH);
  return index < 0 ? null : index;
}

function brush(chart, { index, from }, to) {
  chart.brushes.setPlaces(chart.axes[index], chart.at.place(from), chart.at.place(to));
  chart.brushed(chart.axes[index]);
}

function hover(chart, event) {
  const onAxis = axisAt(chart, event.offsetX) !== null;
  chart.over.classList.toggle("on-axis", onAxis);
  chart.hover(chart.over, event, onAxis ? null : hitAt(chart, event));
}

function hitAt(chart, { offsetX: x, offsetY: y }) {
  const { at, places, store } = chart;
  const right = places.findIndex((_, index) => at.x(index) >= x);
  if (right < 1) return null;
  const share = (x - at.x(right - 1)) / at.gap;
  let [nearest, least] = [null, LINE_REACH];
  for (const row of chart.order) {
    if (!store.shown[row]) continue;
    const place = places[right - 1][row] * (1 - share) + places[right][row] * share;
    const distance = Math.abs(at.y(place) - y);
    if (distance < least) [nearest, least] = [row, distance];
  }
  return nearest === null ? null : hitOf(store, nearest);
}

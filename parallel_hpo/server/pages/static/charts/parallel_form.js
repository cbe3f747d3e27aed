/** Brushes as form fields, for the keyboard and exact bounds. */

import { element } from "../format.js";
import { numberField, tick } from "./elements.js";
import { short } from "./numbers.js";

const MOST_BOXES = 40; // categories with more values are selected in the table's filters

/** Return {element, refresh(axes)}: a fieldset for each axis; `changed` is called after each change of `brushes`. */
export function brushForm(brushes, changed) {
  const body = element("div.chart-fields");
  const details = element("details", {}, element("summary", {}, "Choose by values"), body);
  let known = "";
  const refresh = (axes) => {
    const now = JSON.stringify(axes.map((axis) => [axis.name, axis.numeric, axis.missing, axis.texts]));
    if (now !== known) body.replaceChildren(...axes.map((axis) => fieldsOf(axis, brushes, changed)));
    else for (const fields of body.children) fields.refresh();
    known = now;
  };
  return { element: details, refresh };
}

function fieldsOf(axis, brushes, changed) {
  const { fields, refresh } = axis.numeric ? bounds(axis, brushes, changed) : boxes(axis, brushes, changed);
  const made = element("fieldset", {}, element("legend", {}, axis.label), ...fields);
  refresh();
  return Object.assign(made, { refresh });
}

function bounds(axis, brushes, changed) {
  const set = (part) => {
    const brush = { low: null, high: null, unset: false, ...brushes.get(axis.name), ...part };
    brush.none = brush.low === null && brush.high === null; // then it includes only runs without a value
    if (brush.none && !brush.unset) brushes.delete(axis.name);
    else brushes.set(axis.name, brush);
    changed();
  };
  const least = numberField("at least", (low) => set({ low }));
  const most = numberField("at most", (high) => set({ high }));
  const unset = tick("without a value", false, (ticked) => set({ unset: ticked }));
  const refresh = () => {
    const brush = brushes.get(axis.name);
    const said = (value) => (value === null || value === undefined ? "" : String(Number(value.toPrecision(6))));
    if (document.activeElement !== least.field) least.field.value = said(brush?.low);
    if (document.activeElement !== most.field) most.field.value = said(brush?.high);
    unset.box.checked = Boolean(brush?.unset);
    least.field.placeholder = short(axis.low);
    most.field.placeholder = short(axis.high);
  };
  return { fields: axis.missing ? [least, most, unset] : [least, most], refresh };
}

function boxes(axis, brushes, changed) {
  const texts = [...axis.texts.slice(0, MOST_BOXES), ...(axis.missing ? [null] : [])];
  const set = (text, ticked) => {
    const chosen = new Set(brushes.get(axis.name)?.texts);
    if (ticked) chosen.add(text);
    else chosen.delete(text);
    if (chosen.size) brushes.set(axis.name, { texts: chosen });
    else brushes.delete(axis.name);
    changed();
  };
  const fields = texts.map((text) => tick(text ?? "not set", false, (ticked) => set(text, ticked)));
  const refresh = () => {
    const chosen = brushes.get(axis.name)?.texts;
    fields.forEach((field, index) => (field.box.checked = Boolean(chosen?.has(texts[index]))));
  };
  return { fields, refresh };
}

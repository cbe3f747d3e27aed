import { checkbox, element, fill } from "../format.js";

/** Return a form control that follows a chart's option. */
export function controlOf(chart, option) {
  const control = KINDS[option.kind](option, (value) => chart.set(option.name, value));
  chart.addEventListener("options", () => control.refresh());
  control.refresh();
  return control;
}

const KINDS = {
  choice(option, changed) {
    const select = element("select", { change: () => changed(select.value) });
    const label = element("label.control", {}, element("span", {}, option.label), select);
    const refresh = () => {
      label.hidden = option.choices.length === 0;
      fill(select, option.choices, option.value ?? "");
    };
    return Object.assign(label, { refresh });
  },
  tick(option, changed) {
    const label = checkbox(option.label, option.value, ({ target }) => changed(target.checked), {}, "label.control");
    return Object.assign(label, { refresh: () => (label.firstChild.checked = option.value) });
  },
  slider(option, changed) {
    const said = element("output");
    const { most: max, step } = option;
    const range = element("input", { type: "range", min: 0, max, step, input: () => changed(Number(range.value)) });
    const refresh = () => {
      range.value = option.value;
      said.textContent = String(option.value);
    };
    return Object.assign(element("label.control", {}, element("span", {}, option.label), range, said), { refresh });
  },
};

/** Run `work` once before the next frame, for any number of calls. */
export function oncePerFrame(work) {
  let asked = 0;
  return () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      work();
    });
  };
}

/** Listen to events; returns a function that ends it. */
export function listen(target, listeners) {
  for (const [name, heard] of Object.entries(listeners)) target.addEventListener(name, heard);
  return () => {
    for (const [name, heard] of Object.entries(listeners)) target.removeEventListener(name, heard);
  };
}

/** HTML elements and form controls. Texts are never parsed as HTML; nothing sets a style attribute. */

/** Return a new element; functions among the attributes become listeners, null and false are omitted. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Return a labelled select element; options: [value, text] each. */
export function choice(label, options, chosen, changed) {
  const select = element("select", { change: () => changed(select.value) });
  const fill = (pairs) => select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  fill(options);
  select.value = chosen;
  return Object.assign(element("label", { class: "control" }, element("span", {}, label), select), { select, fill });
}

/** Return a labelled checkbox. */
export function tick(label, ticked, changed) {
  const box = element("input", { type: "checkbox", checked: ticked, change: () => changed(box.checked) });
  return Object.assign(element("label", { class: "control tick" }, box, element("span", {}, label)), { box });
}

/** Return a labelled slider between 0 and `most`. */
export function slider(label, most, step, value, changed) {
  const said = element("output", {}, String(value));
  const range = element("input", {
    type: "range", min: 0, max: most, step, value,
    input: () => {
      said.textContent = range.value;
      changed(Number(range.value));
    },
  });
  return element("label", { class: "control" }, element("span", {}, label), range, said);
}

/** Return a labelled number field; `changed` gets null for an empty one. */
export function numberField(label, changed) {
  const field = element("input", {
    type: "number", step: "any",
    change: () => changed(field.value === "" ? null : Number(field.value)),
  });
  return Object.assign(element("label", { class: "control" }, element("span", {}, label), field), { field });
}

/** Return a function that runs `work` once before the next frame, for any number of calls. */
export function oncePerFrame(work) {
  let asked = 0;
  const later = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      work();
    });
  };
  return Object.assign(later, { cancel: () => cancelAnimationFrame(asked) });
}

/** Listen to several events of a target; returns a function that removes the listeners. */
export function listen(target, listeners) {
  for (const [name, heard] of Object.entries(listeners)) target.addEventListener(name, heard);
  return () => {
    for (const [name, heard] of Object.entries(listeners)) target.removeEventListener(name, heard);
  };
}

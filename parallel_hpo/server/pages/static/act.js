// Buttons for changes. They need a token, which only a page that was opened by a login link has.

import { button, element, find } from "./format.js";
import { fetchPatiently } from "./live.js";
import { ask } from "./menus.js";

const KEPT = "parallel_hpo.token";
const HEADER = "X-Parallel-Hpo-Token";
const EFFECTS = {
  pause: "Starts no new runs until it is resumed; current runs go on.",
  resume: "Starts new runs again.",
  stop: "A sweep finishes its current runs and starts no new ones; a run is ended.",
  drain: "The worker finishes its run and starts no other.",
  scale: "The sweep goes on with this number of workers: missing ones start now, the last ones leave after their run.",
  edit: "Changes what is shown here; the configuration and the logged values stay.",
  delete: "Deletes the run with its history, log and files from this server, for good. Its artifacts stay.",
  cancel: "Ends the current runs now, and starts no new ones.",
};
const ASKED_BACK = ["stop", "drain", "cancel", "delete"];
const DANGEROUS = ["cancel", "delete"];

/** Return the token, requested once; null if this page is read-only. */
async function findToken() {
  const known = sessionStorage.getItem(KEPT);
  if (known !== null) return known;
  const { token = null } = await fetchPatiently("/pages/token", { method: "POST" }).catch(() => ({}));
  if (token !== null) sessionStorage.setItem(KEPT, token);
  return token;
}

/**
 * Return buttons for the possible actions; `show(["pause", …], [0, 1])` sets these and the workers to drain or scale.
 * `fields`: returns the texts that "edit" may change. `effects`: what actions do here.
 */
export async function makeActions(fields, effects = {}) {
  Object.assign(EFFECTS, effects);
  const place = find("actions");
  const said = element("span", { role: "status", class: "small quiet" });
  const token = await findToken();
  let shown = "";
  return (acts, workers = []) => {
    const wanted = `${acts.join()} ${workers.join()}`;
    if (token === null || wanted === shown) return;
    shown = wanted;
    const made = (act, texts) => actionButton(act, said, (asked) => perform({ do: act, ...asked }, token, said), texts);
    const options = workers.map((worker) => element("option", { value: worker }, `worker ${worker}`));
    const choice = element("select", { "aria-label": "Worker to drain" }, ...options);
    const drain = actionButton("drain", said, () => perform({ do: "drain", worker: Number(choice.value) }, token, said));
    const scale = made("scale", () => ({ workers: workers.length }));
    place.replaceChildren(...acts.map((act) => made(act, act === "edit" && fields)), ...(workers.length ? [choice, drain, scale] : []), said);
  };
}

function actionButton(act, said, perform, fields = null) {
  const words = act[0].toUpperCase() + act.slice(1);
  const press = async ({ currentTarget: made }) => {
    const asked = fields ? await ask(words, EFFECTS[act], act === "edit" ? "Save" : words, { fields: fields() }) : !ASKED_BACK.includes(act) || (await ask(`${words}?`, EFFECTS[act], words, { dangerous: DANGEROUS.includes(act) }));
    if (!asked) return;
    made.disabled = true;
    said.textContent = await perform(asked === true ? {} : asked);
    made.disabled = false;
  };
  return button(words, press, { title: EFFECTS[act], class: DANGEROUS.includes(act) && "danger" });
}

/** Perform an action, again while the server can't be read; returns what happened. */
async function perform(asked, token, said) {
  const headers = { "Content-Type": "application/json", [HEADER]: token };
  const wait = (problem) => (said.textContent = `${problem}; ${asked.do}: trying again`);
  try {
    const { then } = await fetchPatiently(`/pages/act${location.pathname}`, { method: "POST", headers, body: JSON.stringify(asked) }, wait);
    if (then) location.assign(then);
    return asked.do === "edit" ? "saved" : `${asked.do}: requested`;
  } catch (error) {
    if (error.status !== 401) return error.message;
    sessionStorage.removeItem(KEPT);
    return "this page can't change anything any more; log in again: parallel-hpo open";
  }
}

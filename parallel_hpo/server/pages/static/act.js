// Buttons for changes. They need a token, which only a page that was opened by a login link has.

import { element } from "./format.js";
import { ask } from "./menus.js";

const KEPT = "parallel_hpo.token";
const HEADER = "X-Parallel-Hpo-Token";
const EFFECTS = {
  pause: "Starts no new runs until it is resumed; current runs go on.",
  resume: "Starts new runs again.",
  stop: "A sweep finishes its current runs and starts no new ones; a run is ended.",
  drain: "The worker finishes its run and starts no other.",
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
  const answer = await fetch("/pages/token", { method: "POST" });
  if (answer.status !== 200) return null;
  const { token } = await answer.json();
  sessionStorage.setItem(KEPT, token);
  return token;
}

/**
 * Return buttons for the possible actions; `show(["pause", …], [0, 1])` sets these and the workers to drain.
 * `fields`: returns the texts that "edit" may change.
 */
export async function makeActions(fields = () => ({})) {
  const place = document.getElementById("actions");
  const said = element("span", { role: "status", class: "small quiet" });
  const token = await findToken();
  let shown = "";
  return (acts, workers = []) => {
    const wanted = `${acts.join()} ${workers.join()}`;
    if (token === null || wanted === shown) return;
    shown = wanted;
    const buttons = acts.map((act) => button(act, said, (texts) => perform({ do: act, ...texts }, token), act === "edit" && fields));
    place.replaceChildren(...buttons, ...(workers.length ? drains(workers, said, token) : []), said);
  };
}

function drains(workers, said, token) {
  const options = workers.map((worker) => element("option", { value: worker }, `worker ${worker}`));
  const choice = element("select", { "aria-label": "Worker to drain" }, ...options);
  return [choice, button("drain", said, () => perform({ do: "drain", worker: Number(choice.value) }, token))];
}

function button(act, said, perform, fields = null) {
  const words = act[0].toUpperCase() + act.slice(1);
  const made = element("button", { type: "button", title: EFFECTS[act], class: DANGEROUS.includes(act) ? "danger" : false }, words);
  made.addEventListener("click", async () => {
    const asked = fields ? await ask(words, EFFECTS[act], "Save", { fields: fields() }) : !ASKED_BACK.includes(act) || (await ask(`${words}?`, EFFECTS[act], words, { dangerous: DANGEROUS.includes(act) }));
    if (!asked) return;
    made.disabled = true;
    said.textContent = await perform(asked === true ? {} : asked);
    made.disabled = false;
  });
  return made;
}

async function perform(asked, token) {
  const headers = { "Content-Type": "application/json", [HEADER]: token };
  const address = `/pages/act${location.pathname}`;
  try {
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(asked) });
    if (answer.ok && asked.do === "delete") location.assign(document.querySelector(".crumbs li:nth-last-child(2) a").href);
    if (answer.ok) return asked.do === "edit" ? "saved" : `${asked.do}: requested`;
    if (answer.status === 401) sessionStorage.removeItem(KEPT);
    return answer.status === 401 ? "this page can't change anything any more; log in again: parallel-hpo open" : (await answer.json()).error;
  } catch {
    return "the server doesn't respond";
  }
}

// Buttons that change something. Only the page that a printed address led to has the token that they need.

import { element } from "./format.js";

const KEPT = "parallel_hpo.token";
const HEADER = "X-Parallel-Hpo-Token";
const SURE = {
  stop: "Stop it? Of a sweep, what runs is finished and nothing new begins; a run is ended.",
  drain: "Drain it? The worker finishes its run, and begins no other one.",
  cancel: "Cancel it? Its running runs are ended now.",
};

/** The token, asked for once; null: this page may only look. */
async function findToken() {
  const known = sessionStorage.getItem(KEPT);
  if (known !== null) return known;
  const answer = await fetch("/pages/token", { method: "POST" });
  if (answer.status !== 200) return null;
  const { token } = await answer.json();
  sessionStorage.setItem(KEPT, token);
  return token;
}

/** Buttons for what may be done now: `show(["pause", …], [0, 1])` says what that is, and which workers may be drained. */
export async function makeActions() {
  const place = document.getElementById("actions");
  const said = element("span", { role: "status" });
  const token = await findToken();
  let shown = "";
  return (acts, workers = []) => {
    const wanted = `${acts.join()} ${workers.join()}`;
    if (token === null || wanted === shown) return;
    shown = wanted;
    const buttons = acts.map((act) => button(act, said, () => perform({ do: act }, token)));
    place.replaceChildren(...buttons, ...(workers.length ? drains(workers, said, token) : []), said);
  };
}

function drains(workers, said, token) {
  const options = workers.map((worker) => element("option", { value: worker }, `worker ${worker}`));
  const choice = element("select", { "aria-label": "Worker to drain" }, ...options);
  return [choice, button("drain", said, () => perform({ do: "drain", worker: Number(choice.value) }, token))];
}

function button(act, said, perform) {
  const made = element("button", { type: "button" }, act[0].toUpperCase() + act.slice(1));
  made.addEventListener("click", async () => {
    if (SURE[act] && !window.confirm(SURE[act])) return;
    made.disabled = true;
    said.textContent = await perform();
    made.disabled = false;
  });
  return made;
}

async function perform(asked, token) {
  const headers = { "Content-Type": "application/json", [HEADER]: token };
  const address = `/pages/act${location.pathname}`;
  try {
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(asked) });
    if (answer.ok) return `${asked.do}: it was told`;
    if (answer.status === 401) sessionStorage.removeItem(KEPT);
    return answer.status === 401 ? "this page may only look any more: parallel-hpo open" : (await answer.json()).error;
  } catch {
    return "the server does not answer";
  }
}

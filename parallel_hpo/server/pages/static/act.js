// Buttons that change something. Only the page that a printed address led to has the token that they need.

import { element } from "./format.js";

const KEPT = "parallel_hpo.token";
const HEADER = "X-Parallel-Hpo-Token";
const SURE = {
  stop: "Stop it? Of a sweep, what runs is finished and nothing new begins; a run is ended.",
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

/** Buttons for what may be done now: `show(["pause", …])` says what that is. */
export async function makeActions() {
  const place = document.getElementById("actions");
  const said = element("span", { role: "status" });
  const token = await findToken();
  let shown = "";
  return (acts) => {
    if (token === null || acts.join() === shown) return;
    shown = acts.join();
    place.replaceChildren(...acts.map((act) => button(act, token, said)), said);
  };
}

function button(act, token, said) {
  const made = element("button", { type: "button" }, act[0].toUpperCase() + act.slice(1));
  made.addEventListener("click", async () => {
    if (SURE[act] && !window.confirm(SURE[act])) return;
    made.disabled = true;
    said.textContent = await perform(act, token);
    made.disabled = false;
  });
  return made;
}

async function perform(act, token) {
  const headers = { "Content-Type": "application/json", [HEADER]: token };
  const address = `/pages/act${location.pathname}`;
  try {
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify({ do: act }) });
    if (answer.ok) return `${act}: it was told`;
    if (answer.status === 401) sessionStorage.removeItem(KEPT);
    return answer.status === 401 ? "this page may only look any more: parallel-hpo open" : (await answer.json()).error;
  } catch {
    return "the server does not answer";
  }
}

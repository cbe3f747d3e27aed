// A report: a sweep as it was when the file was written, without a server.

import { countsOf, drawBar, listCounts, progressWords } from "./progress.js";
import { find, say } from "./format.js";
import { Store } from "./store.js";
import { mountWorkspace } from "./workspace.js";

const { sweep, timeline } = JSON.parse(find("data").textContent);
const histories = unpacked(find("histories-packed").textContent);

/** The data that charts would request from a server. */
const data = {
  timeline: async () => timeline,
  histories: async ({ key, x, runs }) => {
    const found = (await histories).find((each) => each.key === key && each.x === x);
    const wanted = runs === null ? null : new Set(runs.split(","));
    return { ...found, runs: (found?.runs ?? []).filter(({ id }) => wanted === null || wanted.has(id)) };
  },
};

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

const store = new Store();
const drawCharts = mountWorkspace(store, null);
store.merge(sweep);
const counts = countsOf(store.runs.state);
say(find("progress"), progressWords(counts, store.sweep.count));
drawBar(find("bar"), counts, store.sweep.count);
listCounts(find("counts"), counts);
drawCharts(data);

// A report: a sweep as it was when the file was written, without a server.

import { mountSweep } from "./charts/index.js";
import { wireFilters } from "./filters.js";
import { Store } from "./store.js";
import { RunTable } from "./table.js";

const { sweep, timeline } = JSON.parse(document.getElementById("data").textContent);
const histories = unpacked(document.getElementById("histories-packed").textContent);

/** The data that charts would request from a server. */
const kept = {
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
new RunTable(store, null);
store.merge(sweep);
wireFilters(store);
mountSweep(document.getElementById("main"), store, kept);

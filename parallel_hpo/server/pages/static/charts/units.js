/** System metrics: their groups, and their values in units. wandb client: names as in its system monitor. */

export const SYSTEM_GROUPS = ["GPU", "CPU", "Memory", "Disk", "Network", "Other"];

const GROUPS = [[/\bgpu\b|\btpu\b/i, "GPU"], [/\bcpu\b/i, "CPU"], [/memory/i, "Memory"], [/\bdisk\b/i, "Disk"], [/\bnetwork\b/i, "Network"]];
const UNITS = [
  [/bytes$|network\.(sent|recv)$/i, "B"],
  [/MB$|disk\.(.*\.)?(in|out)$/, "MB"],
  [/GB$/, "GB"],
  [/percent$|^cpu$|\.(gpu|memory|memoryAllocated|fanSpeed|\w*Utilization)$/i, "%"],
  [/temp$/i, "°C"],
  [/watts$/i, "W"],
  [/clock$/i, "MHz"],
];
const SIZES = ["B", "kB", "MB", "GB", "TB"];

export function systemGroup(key) {
  return GROUPS.find(([pattern]) => pattern.test(key))?.[1] ?? "Other";
}

/** Return a system metric's values in a unit that fits them: {y, unit}; unit "" if it has none. */
export function inUnit(key, values) {
  const unit = UNITS.find(([pattern]) => pattern.test(key.replace(/^system\./, "")))?.[1] ?? "";
  let size = SIZES.indexOf(unit);
  if (size < 0) return { y: values, unit };
  let [most, factor] = [values.reduce((high, value) => Math.max(high, Math.abs(value ?? 0)), 0), 1];
  for (; most >= 1000 && size < SIZES.length - 1; size++) [most, factor] = [most / 1000, factor / 1000];
  return { y: values.map((value) => (value === null ? null : value * factor)), unit: SIZES[size] };
}

/**
 * The importance of each parameter alone for the metric.
 *
 * Runs are grouped by the parameter (numbers: bins with equal numbers of runs; categories: one group each). The
 * importance is the share of the variance of the metric's ranks between groups, corrected for chance (epsilon
 * squared). It includes nonlinear effects and categories, but not interactions of parameters. The correlation is
 * Spearman's, for numbers only. Ranks are robust against outliers.
 */

import { exactText } from "./numbers.js";

const LEAST_RUNS = 6;
const MOST_BINS = 8;

/** Return {importance, correlation, runs} of a column for values; importance is null for fewer than six runs. */
export function effect(column, values) {
  const rows = column.flatMap((value, row) => (isThere(value) && Number.isFinite(values[row]) && values[row] !== null ? [row] : []));
  if (rows.length < LEAST_RUNS) return { importance: null, correlation: null, runs: rows.length };
  const [given, got] = [rows.map((row) => column[row]), ranks(rows.map((row) => values[row]))];
  const numeric = given.every((value) => typeof value === "number");
  const bins = numeric ? binsOfNumbers(given) : given.map(exactText);
  return { importance: between(bins, got), correlation: numeric ? pearson(ranks(given), got) : null, runs: rows.length };
}

function isThere(value) {
  return value !== null && value !== undefined;
}

/** Return the rank of each value; equal values get their mean rank. */
export function ranks(values) {
  const order = values.map((_, index) => index).sort((one, other) => values[one] - values[other]);
  const ranked = new Array(values.length);
  for (let first = 0; first < order.length; ) {
    let last = first;
    while (last + 1 < order.length && values[order[last + 1]] === values[order[first]]) last++;
    for (let at = first; at <= last; at++) ranked[order[at]] = (first + last) / 2;
    first = last + 1;
  }
  return ranked;
}

/** Group numbers into bins with equal numbers of runs; a few distinct numbers get a bin each. */
function binsOfNumbers(values) {
  const count = Math.max(2, Math.min(MOST_BINS, Math.floor(Math.sqrt(values.length) / 1.5)));
  if (new Set(values).size <= count) return values;
  return ranks(values).map((rank) => Math.min(count - 1, Math.floor((rank / values.length) * count)));
}

function between(bins, values) {
  const groups = new Map();
  bins.forEach((bin, index) => groups.set(bin, [...(groups.get(bin) ?? []), values[index]]));
  const [count, all] = [values.length, mean(values)];
  const total = values.reduce((sum, value) => sum + (value - all) ** 2, 0);
  if (total === 0 || groups.size < 2 || groups.size >= count) return 0;
  const inside = [...groups.values()].reduce((sum, group) => {
    const centre = mean(group);
    return sum + group.reduce((squares, value) => squares + (value - centre) ** 2, 0);
  }, 0);
  return Math.max(0, 1 - (inside / total) * ((count - 1) / (count - groups.size)));
}

function pearson(one, other) {
  const [mine, theirs] = [mean(one), mean(other)];
  let [both, first, second] = [0, 0, 0];
  one.forEach((value, index) => {
    const [a, b] = [value - mine, other[index] - theirs];
    both += a * b;
    first += a * a;
    second += b * b;
  });
  return first && second ? both / Math.sqrt(first * second) : 0;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

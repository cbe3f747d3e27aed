// The order of a table's rows by a column; rows without a value come last in both directions.

/** Return the wanted ones (by default the shown ones) of rows 0 … count-1, ordered by a column; `up`: ascending. */
export function ordered(store, name, up, wanted = store.shown) {
  const values = store.column(name);
  const rows = [];
  for (let row = 0; row < store.count; row++) if (wanted[row]) rows.push(row);
  const [there, missing] = [[], []];
  for (const row of rows) (isMissing(values[row]) ? missing : there).push(row);
  const way = up ? 1 : -1;
  there.sort((one, other) => way * compare(values[one], values[other]) || one - other);
  return [...there, ...missing];
}

/** Return whether a column is first sorted in ascending order: the best first. */
export function goesUpAtFirst(store, name) {
  if (name === "value") return store.minimizes;
  return name !== "started" && name !== "ended";
}

function isMissing(value) {
  return value === null || value === undefined;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === "number") return -1;
  if (typeof other === "number") return 1;
  const [left, right] = [text(one), text(other)];
  return left < right ? -1 : left > right ? 1 : 0;
}

function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

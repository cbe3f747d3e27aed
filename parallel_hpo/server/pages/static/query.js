// The search: words, and conditions such as `lr > 0.01 and (optimizer = adam or not state = failed)`.
//
//   any    := every ("or" every)*
//   every  := one ("and"? one)*
//   one    := "not" one | "(" any ")" | column operator value | word

import { anything } from "./format.js";

const TOKEN = /\s*(?:"([^"]*)"|(<=|>=|!=|==|[<>=~()])|([^\s<>=!~()"]+|!))/y;
const OPERATORS = {
  "=": (value, given) => isSame(value, given),
  "!=": (value, given) => !isSame(value, given),
  "<": (value, given) => isNumber(value) && value < Number(given),
  "<=": (value, given) => isNumber(value) && value <= Number(given),
  ">": (value, given) => isNumber(value) && value > Number(given),
  ">=": (value, given) => isNumber(value) && value >= Number(given),
  "~": (value, given) => anything(value).toLowerCase().includes(given.toLowerCase()),
};

/** Thrown for a search that can't be read; the message says what is wrong. */
export class QueryError extends Error {}

/**
 * Return a predicate of rows for a search; null for an empty one. QueryError if it can't be read.
 *
 * columns: {name, title} each; value(name, row): a run's value in a column; texts(row): what a word is looked for in.
 */
export function predicateOf(typed, { columns, value, texts }) {
  const tokens = tokensOf(typed);
  if (tokens.length === 0) return null;
  const reader = { tokens, place: 0, columns, value, texts };
  const found = readAny(reader);
  if (reader.place < tokens.length) throw new QueryError(`“${tokens[reader.place].text}” isn't expected here`);
  return found;
}

function tokensOf(typed) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < typed.trimEnd().length) {
    const found = TOKEN.exec(typed);
    if (found === null) throw new QueryError('a " has no second one');
    const [, quoted, operator, word] = found;
    if (quoted !== undefined) tokens.push({ kind: "word", text: quoted, isQuoted: true });
    else if (operator) tokens.push({ kind: "(" === operator || ")" === operator ? operator : "operator", text: operator === "==" ? "=" : operator });
    else tokens.push({ kind: ["and", "or", "not"].includes(word.toLowerCase()) ? word.toLowerCase() : "word", text: word });
  }
  return tokens;
}

function kindAt(reader, ahead = 0) {
  return reader.tokens[reader.place + ahead]?.kind;
}

function readAny(reader) {
  const parts = [readEvery(reader)];
  while (kindAt(reader) === "or") {
    reader.place++;
    parts.push(readEvery(reader));
  }
  return (row) => parts.some((part) => part(row));
}

function readEvery(reader) {
  const parts = [readOne(reader)];
  while (["and", "not", "(", "word"].includes(kindAt(reader))) {
    if (kindAt(reader) === "and") reader.place++;
    parts.push(readOne(reader));
  }
  return (row) => parts.every((part) => part(row));
}

function readOne(reader) {
  const token = reader.tokens[reader.place++];
  const before = reader.tokens[reader.place - 2]?.text;
  if (token === undefined) throw new QueryError(before === undefined ? "it is empty" : `something is missing after “${before}”`);
  if (token.kind === "not") {
    const part = readOne(reader);
    return (row) => !part(row);
  }
  if (token.kind === "(") {
    const part = readAny(reader);
    if (kindAt(reader) !== ")") throw new QueryError("a “)” is missing");
    reader.place++;
    return part;
  }
  if (token.kind !== "word") throw new QueryError(`“${token.text}” isn't expected ${before === undefined ? "at the beginning" : `after “${before}”`}`);
  return kindAt(reader) === "operator" ? readCondition(reader, token) : containing(reader, token.text);
}

function readCondition(reader, { text }) {
  const operator = reader.tokens[reader.place++].text;
  const given = reader.tokens[reader.place++];
  if (given?.kind !== "word") throw new QueryError(`a value is missing after “${text} ${operator}”`);
  if ("<>".includes(operator[0]) && !Number.isFinite(Number(given.text))) throw new QueryError(`“${given.text}” isn't a number; ${operator} compares numbers`);
  const name = columnNamed(text, reader.columns);
  return (row) => OPERATORS[operator](reader.value(name, row), given.text);
}

/** Return the name of the column that a text means: its title, or the last part of one title alone. */
function columnNamed(text, columns) {
  const wanted = text.toLowerCase();
  const whole = columns.find(({ name, title }) => [name.toLowerCase(), title.toLowerCase()].includes(wanted));
  if (whole) return whole.name;
  const last = columns.filter(({ title }) => title.toLowerCase().split(/[./]/).at(-1) === wanted);
  if (last.length === 1) return last[0].name;
  if (last.length > 1) throw new QueryError(`“${text}” may be ${last.map(({ title }) => title).join(" or ")}`);
  const near = columns.find(({ title }) => title.toLowerCase().includes(wanted));
  throw new QueryError(`no column is called “${text}”${near ? `; is it “${near.title}”?` : ""}`);
}

function containing(reader, text) {
  const word = text.toLowerCase();
  return (row) => reader.texts(row).includes(word);
}

function isNumber(value) {
  return typeof value === "number";
}

function isSame(value, given) {
  if (isNumber(value) && given.trim() !== "" && Number.isFinite(Number(given))) {
    return Math.abs(value - Number(given)) <= 1e-9 * Math.abs(value) || anything(value) === given;
  }
  return anything(value).toLowerCase() === given.toLowerCase();
}

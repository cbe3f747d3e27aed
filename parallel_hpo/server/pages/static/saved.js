// What a run saved beside its values: files, of which texts can be read here, and artifacts.

import { button, element, find, runLink, say, scrolling, scrollingTable, size, time } from "./format.js";
import { fetchJson } from "./live.js";
import { pathOf } from "./media.js";
import { iconButton, showDialog } from "./menus.js";

const TEXT = /\.(cfg|csv|diff|ini|ipynb|js|json|log|md|patch|py|r|sh|sql|toml|txt|ya?ml)$|(^|\/)[^.]+$/i;
const CHANGES = /\.(patch|diff)$/i;
const MOST_BYTES = 2 ** 20;

export function fileCells(file, base) {
  return [fileCell(file, base), size(file.size), time(file.updated)];
}

export function artifactCells(artifact, base) {
  const { name, type, how, files, size: bytes, created } = artifact;
  return [button(name, () => showArtifact(artifact, base)), type, how, String(files), size(bytes), time(created)];
}

function fileCell({ name, size: bytes }, base) {
  const path = pathOf(name);
  const cell = element("span.row", {}, element("a", { href: `${base}/files/${path}`, download: true }, name));
  if (TEXT.test(name) && bytes <= MOST_BYTES) cell.append(button("Show", () => showText(name, `${base}/text/${path}`), { "aria-label": `Show ${name}` }));
  return cell;
}

function openDialog(title) {
  const body = element("div", {}, "…");
  const close = iconButton("cross", "Close", () => dialog.close());
  const dialog = showDialog({ class: "wide", "aria-label": title }, () => {}, element("header", {}, element("h2", {}, title), close), body);
  return body;
}

async function showText(name, address) {
  const body = openDialog(name);
  const { text } = await fetchJson(address).catch((error) => ({ text: error.message }));
  const lines = text.split("\n").map((line) => element("span", { class: CHANGES.test(name) && changeOf(line) }, `${line}\n`));
  body.replaceChildren(element("pre", scrolling(name), ...lines));
}

function changeOf(line) {
  return /^\+(?!\+\+ )/.test(line) ? "added" : /^-(?!-- )/.test(line) ? "removed" : false;
}

async function showArtifact({ id, name }, base) {
  const body = openDialog(`Artifact ${name}`);
  const address = `${base}/artifacts/${id}`;
  const { home } = find("main").dataset;
  try {
    const { files, versions, users } = await fetchJson(address);
    const list = (title, rows, none) => [element("h3", {}, title), ...(rows.length ? [scrollingTable(title, rows)] : [element("p.quiet", {}, none)])];
    body.replaceChildren(
      ...list("Files", files.map((file) => [file.url === null ? fileCell(file, address) : `${file.name}: ${file.url}`, size(file.size)]), "It has no files."),
      ...list("Versions", versions.map((version) => [version.name, version.aliases.join(", "), time(version.created), version.run === null ? "" : runLink(home, version.run, version.run)]), "None."),
      ...list("Used by", users.map((run) => [runLink(home, run, run)]), "No run has used this version."),
    );
  } catch (error) {
    say(body, error.message);
  }
}

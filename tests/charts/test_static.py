"""Static files: modules bundled into one script, and vendored files checked by hash without npm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages.answers import UnlinkableError, script, style


def linked(folder: Path, **modules: str) -> str:
    for name, source in modules.items():
        (folder / f"{name}.js").write_text(source)
    return script(folder, "entry.js")


def test_an_imported_module_precedes_its_importers_and_appears_once(tmp_path: Path) -> None:
    joined = linked(
        tmp_path,
        entry='import { one } from "./one.js";\nimport { two as second } from "./two.js";\none(second);\n',
        one='import { two } from "./two.js";\nexport function one() { return two; }\n',
        two="export const two = 2;\n",
    )
    assert joined.index("const two = 2;") < joined.index("function one()") < joined.index("one(second);")
    assert joined.count("const two = 2;") == 1
    assert "const { two: second } = $0;" in joined


UNSUPPORTED = r"entry\.js: unsupported form"


@pytest.mark.parametrize(
    ("entry", "one", "words"),
    [
        ('export * from "./one.js";', "", UNSUPPORTED),
        ("export let counted = 0;", "", UNSUPPORTED),
        ('import "./one.js";', "", UNSUPPORTED),
        ("export default class {}", "", UNSUPPORTED),
        ('import * as one from "./one.js";', "export const one = 1;", UNSUPPORTED),
        ("const one = 1;\nexport { one };", "", UNSUPPORTED),
        (
            'import { one } from "./one.js";',
            'import { main } from "./entry.js";\nexport const one = 1;',
            r"one\.js → entry\.js",
        ),
        ('const text = "</script>";', "", "ends a script"),
    ],
)
def test_a_module_that_cannot_be_bundled_is_refused(tmp_path: Path, entry: str, one: str, words: str) -> None:
    with pytest.raises(UnlinkableError, match=words):
        linked(tmp_path, entry=entry, one=one)


def test_every_module_of_the_pages_can_be_bundled() -> None:
    for path in answers.FOLDER.glob("**/*.js"):
        assert script(answers.FOLDER, str(path.relative_to(answers.FOLDER)))


@pytest.mark.parametrize("page", ["home.js", "project.js", "sweep.js", "run.js", "report.js"])
def test_a_page_loads_at_most_200_kb_of_scripts_and_styles(page: str) -> None:
    styles = sum(path.stat().st_size for path in answers.FOLDER.glob("*.css"))
    assert len(script(answers.FOLDER, page).encode()) + styles <= 200_000


def test_imported_styles_are_inlined(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text('@import url("theirs.css");\nb { color: red; }')
    (tmp_path / "theirs.css").write_text("i { color: blue; }")
    assert style(tmp_path, "own.css") == "i { color: blue; }\nb { color: red; }"


ROOT: Final = Path(__file__).parents[2]
NPM: Final = ROOT / "scripts" / "npm"
VENDOR: Final = ROOT / "parallel_hpo" / "server" / "pages" / "static" / "vendor"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


MANIFEST: Final = read(VENDOR / "manifest.json")


def test_the_vendored_files_are_exactly_those_of_the_manifest() -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del files["manifest.json"]
    assert files == MANIFEST["sha256"]


def test_the_vendored_files_have_the_pinned_versions() -> None:
    wanted = read(NPM / "package.json")
    assert {name: package["version"] for name, package in MANIFEST["packages"].items()} == wanted[
        "dependencies"
    ]


def test_the_lock_file_has_the_pinned_versions_and_names_no_host() -> None:
    wanted, lock = read(NPM / "package.json"), read(NPM / "package-lock.json")
    for name, version in wanted["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert "://" not in (NPM / "package-lock.json").read_text()


def test_each_vendored_library_has_its_licence() -> None:
    for name in MANIFEST["packages"]:
        licence = (VENDOR / f"{name.rpartition('/')[2]}.LICENSE").read_text()
        assert "permission is hereby granted" in licence.lower()

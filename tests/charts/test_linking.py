"""Modules of the pages become one script: each form that they use, and a refusal of any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages.answers import UnlinkableError, script, style


def linked(folder: Path, **modules: str) -> str:
    for name, source in modules.items():
        (folder / f"{name}.js").write_text(source)
    return script(folder, "entry.js")


def test_what_a_module_needs_stands_before_it_and_once(tmp_path: Path) -> None:
    joined = linked(
        tmp_path,
        entry='import { one } from "./one.js";\nimport { two as second } from "./two.js";\none(second);\n',
        one='import { two } from "./two.js";\nexport function one() { return two; }\n',
        two="export const two = 2;\n",
    )
    assert joined.index("$two_js =") < joined.index("$one_js =") < joined.index("$entry_js =")
    assert joined.count("const two = 2;") == 1
    assert "const { two: second } = $two_js;" in joined


@pytest.mark.parametrize(
    "source",
    ['export * from "./one.js";', "export let counted = 0;", 'import "./one.js";', "export default class {}"],
)
def test_an_unsupported_form_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(UnlinkableError, match=r"entry\.js: unsupported form"):
        linked(tmp_path, entry=source, one="")


def test_an_import_cycle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnlinkableError, match=r"one\.js → entry\.js"):
        linked(
            tmp_path,
            entry='import { one } from "./one.js";',
            one='import { main } from "./entry.js";\nexport const one = 1;',
        )


def test_a_script_with_a_closing_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnlinkableError, match="ends a script"):
        linked(tmp_path, entry='const text = "</script>";')


def test_every_module_of_the_pages_can_be_joined() -> None:
    for path in answers.FOLDER.glob("**/*.js"):
        assert script(answers.FOLDER, str(path.relative_to(answers.FOLDER)))


def test_styles_are_joined_with_those_that_they_import(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text('@import url("theirs.css");\nb { color: red; }')
    (tmp_path / "theirs.css").write_text("i { color: blue; }")
    assert style(tmp_path, "own.css") == "i { color: blue; }\nb { color: red; }"

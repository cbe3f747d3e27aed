from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.config.loader import Sources, load_section, read_document, with_section
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError

SWEEP = {"method": "random", "parameters": {"LR": {"min": 0.1, "max": 1.0}}}
FILE = Path("config.json")
NONE: Mapping[str, str] = {}


def load(
    section: object, environment: Mapping[str, str] = NONE, flags: Mapping[str, str] = NONE
) -> HpoSection | None:
    return load_section({"hpo": section}, FILE, Sources(environment, flags), kinds=("wandb_sweeps",))


def loaded(keys: Mapping[str, Any], environment: Mapping[str, str] = NONE, **flags: str) -> HpoSection:
    section = load({"sweep_configuration": SWEEP, **keys}, environment, flags)
    assert section is not None
    return section


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    return str(caught.value)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '{"mine": {"a": [1, 2]}}'),
        ("c.JSON", '\ufeff{"mine": {"a": [1, 2]}}'),
        ("c.yaml", "mine:\n  a: [1, 2]\n"),
        ("c.yml", "mine: {a: [1, 2]}"),
        ("c.toml", "[mine]\na = [1, 2]\n"),
    ],
)
def test_the_suffix_chooses_the_parser_of_a_file(tmp_path: Path, name: str, content: str) -> None:
    assert read_document(written(tmp_path, name, content)) == {"mine": {"a": [1, 2]}}


def test_a_time_of_day_in_yaml_stays_text(tmp_path: Path) -> None:
    read = read_document(written(tmp_path, "c.yaml", "a: 18:00\nb: -1:30:00.5\nc: [7, 1_000, 1.5e+3]\n"))
    assert read == {"a": "18:00", "b": "-1:30:00.5", "c": [7, 1000, 1500.0]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.json", '{"a": 1,\n "b" 2}', "broken JSON at line 2, column 6: "),
        ("c.yaml", "a: 1\nb: [1, 2\nc: 3\n", "broken YAML at line 3, column 2: "),
        ("c.yaml", "a: 1\n---\nb: 2\n", "broken YAML at line 2, column 1: "),
        ("c.yaml", "a: 2026-13-45\n", "broken YAML: "),
        ("c.yaml", "a: \x00\n", "broken YAML: "),
        ("c.toml", "a = 1\nb 2\n", "broken TOML: "),
        ("c.json", "[1, 2]", "the top level is [1, 2]; allowed: a table"),
        ("c.yaml", "", "the top level is null; allowed: a table"),
        ("c.json", "[" * 100_000, "is nested too deeply"),
        ("c.json", b'{"a": "\xff"}', "is not UTF-8 text (byte 7)"),
        ("c.ini", "a = 1", "the suffix '.ini' is unknown; allowed: .json, .yaml, .yml, .toml"),
        ("c", "a = 1", "the suffix '' is unknown"),
    ],
)
def test_a_broken_file_is_named_with_its_error(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    path = written(tmp_path, name, content)
    assert refusal(path).startswith(f"{path}: {words}")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert refusal(path) == f"{path}: can't be read: No such file or directory"
    path.mkdir()
    assert refusal(path) == f"{path}: can't be read: Is a directory"


def test_a_file_without_a_section_gives_none() -> None:
    sources = Sources({"PARALLEL_HPO_COUNT": "0"})
    assert load_section({"mine": 1}, FILE, sources, kinds=("wandb_sweeps",)) is None


@pytest.mark.parametrize(
    ("section", "environment"),
    [
        ({"apply": False, "count": "many", "nonsense": 1, "kind": "none"}, NONE),
        ({"count": 0}, {"PARALLEL_HPO_APPLY": "false"}),
        ({"count": 0}, {"PARALLEL_HPO_WORKER": "0", "PARALLEL_HPO_WORKERS": "zero"}),
    ],
)
def test_nothing_is_checked_where_the_section_does_not_apply_or_inside_a_worker(
    section: object, environment: Mapping[str, str]
) -> None:
    assert load(section, environment) is None
    assert loaded({"apply": False}, {"PARALLEL_HPO_APPLY": "true"}).apply


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ([1], r"^config\.json: hpo is \[1\]; allowed: a table"),
        (
            {"kind": "wandb_sweep", "key_of_another_kind": 1},
            r"hpo\.kind is \"wandb_sweep\"; did you mean 'wandb_sweeps'\? known: ",
        ),
    ],
)
def test_a_section_that_is_no_table_or_of_an_unknown_kind_is_refused(section: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(section)


def test_flags_override_the_environment_and_it_overrides_the_file() -> None:
    environment = {"PARALLEL_HPO_COUNT": "2"}
    assert loaded({"count": 1}).count == 1
    assert loaded({"count": 1}, environment).count == 2
    assert loaded({"count": 1}, environment, count="3").count == 3


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("workers", "auto", "auto"),
        ("grace_period_s", "2.5", 2.5),
        ("count", "null", None),
        ("devices", "3,5", ["3", "5"]),
        ("preload", "torch,numpy.linalg", ["torch", "numpy.linalg"]),
        ("project", "2026", "2026"),
    ],
)
def test_an_override_is_json_a_list_with_commas_or_text(key: str, text: str, value: object) -> None:
    section = loaded({"count": 1, "workers": 2}, {f"PARALLEL_HPO_{key.upper()}": text})
    assert getattr(section, key) == value


def test_a_nested_key_is_overridden_in_the_files_spelling() -> None:
    name = "PARALLEL_HPO_SWEEP_CONFIGURATION__PARAMETERS__LR__MAX"
    section = loaded({}, {name: "0.5"})
    assert section.sweep_configuration == {"method": "random", "parameters": {"LR": {"min": 0.1, "max": 0.5}}}


def test_a_nested_override_is_applied_after_a_whole_one() -> None:
    environment = {
        "PARALLEL_HPO_SWEEP_CONFIGURATION": json.dumps({**SWEEP, "method": "grid"}),
        "PARALLEL_HPO_SWEEP_CONFIGURATION__METHOD": "bayes",
        "PARALLEL_HPO_SWEEP_CONFIGURATION__METRIC__NAME": "loss",
    }
    expected = {**SWEEP, "method": "bayes", "metric": {"name": "loss"}}
    assert loaded({}, environment).sweep_configuration == expected


def test_overrides_do_not_change_the_document() -> None:
    document = {"hpo": {"sweep_configuration": dict(SWEEP)}}
    before = json.dumps(document)
    sources = Sources({"PARALLEL_HPO_SWEEP_CONFIGURATION__METHOD": "grid", "PARALLEL_HPO_APPLY": "false"})
    load_section(document, FILE, sources, kinds=("wandb_sweeps",))
    assert json.dumps(document) == before


@pytest.mark.parametrize(
    ("environment", "flags", "words"),
    [
        ({"COUNT": "many"}, {}, 'environment variable PARALLEL_HPO_COUNT: hpo.count is "many"; allowed: '),
        ({"COUTN": "1"}, {}, "environment variable PARALLEL_HPO_COUTN: hpo.coutn: unknown key; did you"),
        ({"COUNT__X": "1"}, {}, 'environment variable PARALLEL_HPO_COUNT__X: hpo.count is {"x": 1}; '),
        ({"COUNT": "1"}, {"count": "0"}, "flag --count: hpo.count is 0; allowed: "),
        ({}, {"grace_period_s": "-1"}, "flag --grace-period-s: hpo.grace_period_s is -1; allowed: "),
        ({}, {"workers": "NaN"}, "flag --workers: hpo.workers is NaN; allowed: "),
    ],
)
def test_an_invalid_override_names_its_source(
    environment: dict[str, str], flags: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({}, {f"PARALLEL_HPO_{name}": value for name, value in environment.items()}, **flags)
    assert str(caught.value).startswith(words)


def test_variables_of_a_run_are_not_read_as_keys() -> None:
    facts = {"PARALLEL_HPO_DEVICE": "0", "PARALLEL_HPO_RUN_ID": "abc", "PARALLEL_HPO_ATTEMPT": "1"}
    assert loaded({}, facts).count is None


def test_only_a_plain_sweep_file_becomes_the_section_with_its_project_and_entity() -> None:
    document = {**SWEEP, "project": "p", "entity": "e"}
    section = {"sweep_configuration": document, "project": "p", "entity": "e"}
    assert with_section(document, FILE) == {"hpo": section}
    whole = {"hpo": {"count": 0}, "method": "mine"}
    assert with_section(whole, FILE) is whole


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({**SWEEP, "method": "rndom"}, r"^config\.json: sweep\.method is \"rndom\""),
        ({"mine": 1}, "has no 'hpo' section, and is not a W&B sweep file"),
    ],
)
def test_a_document_without_a_section_and_without_a_sweep_is_refused(
    document: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        with_section(document, FILE)

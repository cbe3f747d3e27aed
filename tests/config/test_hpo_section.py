from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.config.section import (
    BackendChoice,
    HpoSection,
    StartMethod,
    is_text,
    parse_section,
    section_schema,
)
from parallel_hpo.config.tables import words_of
from parallel_hpo.core.errors import ConfigError, ExitCode

SWEEP = {"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}


def parse(**keys: Any) -> HpoSection:
    return parse_section({"sweep_configuration": SWEEP, **keys}, origin=lambda key: "config.json")


def refusal(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(**keys)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def test_every_key_has_its_default() -> None:
    section = parse()
    assert (section.kind, section.apply, section.count) == ("wandb_sweeps", True, None)
    assert (section.project, section.entity, section.sweep_id) == (None, None, None)
    assert (section.backend, section.workers) == (BackendChoice.AUTO, "auto")
    assert (section.retries, section.grace_period_s) == (1, 30)
    assert section.start_method is StartMethod.FORKSERVER
    assert section.directory.name == "parallel_hpo"


@pytest.mark.parametrize("engine", ["auto", "wandb", None])
def test_the_former_key_engine_is_refused_with_advice(engine: object) -> None:
    assert refusal(engine=engine) == (
        "config.json: hpo.engine: parallel_hpo has one search engine: leave this key out;"
        " for W&B's engine run `wandb sweep-scheduler` of your own"
    )


@pytest.mark.parametrize("count", [0, -1, "2", True, 2.5])
def test_an_invalid_count_is_refused(count: object) -> None:
    allowed = "allowed: a whole number of 1 or more, or null for no limit"
    assert refusal(count=count) == f"config.json: hpo.count is {json.dumps(count)}; {allowed}"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("notify-send 'it is done'", ("notify-send", "it is done")),
        (["a b", ""], ("a b", "")),
        ('["a b", "c"]', ("a b", "c")),
        ("[ -e x ]", ("[", "-e", "x", "]")),
    ],
)
def test_a_command_is_a_text_or_a_list_of_words(written: str | list[str], words: tuple[str, ...]) -> None:
    assert words_of(parse(on_end=written).on_end or ()) == words


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("on_end", ""),
        ("on_end", []),
        ("on_failure", "a 'b"),
        ("on_failure", 3),
        ("notify", 3),
        ("kind", None),
        ("apply", 1),
        ("sweep_configuration", []),
        ("project", ""),
        ("entity", 3),
        ("sweep_id", ""),
        ("backend", "cloud"),
        ("backend", 1),
        ("workers", 0),
        ("workers", "many"),
        ("workers", True),
        ("workers", 2.0),
        ("retries", -1),
        ("retries", "1"),
        ("grace_period_s", 0),
        ("grace_period_s", True),
        ("grace_period_s", float("nan")),
        ("grace_period_s", float("inf")),
        ("start_method", "fork"),
        ("directory", 3),
        ("directory", ""),
        ("directory", "~nobody-of-this-name/x"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_with_what_is_allowed(key: str, value: object) -> None:
    message = refusal(**{key: value})
    assert message.startswith(f"config.json: hpo.{key} is ")
    assert "; allowed: " in message
    assert "\n" not in message


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    message = refusal(worker=2)
    assert message.startswith("config.json: hpo.worker: unknown key; did you mean 'workers'? known: kind, ")


def test_a_key_of_another_type_is_refused() -> None:
    raw: dict[Any, Any] = {"sweep_configuration": SWEEP, 7: 1}
    with pytest.raises(ConfigError, match=r"^c: hpo\.7: unknown key"):
        parse_section(raw, origin=lambda key: "c")


def test_several_wrong_keys_are_named_in_one_line_each() -> None:
    assert len(refusal(count=0, retries=-1, zzz=1).splitlines()) == 3


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refusal(count="9" * 10_000)) < 200


def test_each_error_names_the_values_source() -> None:
    with pytest.raises(ConfigError, match=r"^source of count: hpo\.count is 0"):
        parse_section({"sweep_configuration": SWEEP, "count": 0}, origin=lambda key: f"source of {key}")


def test_a_wrong_sweep_configuration_is_refused_with_its_key_path() -> None:
    message = refusal(sweep_configuration={**SWEEP, "method": "rndom"})
    assert message.startswith('config.json: hpo.sweep_configuration.method is "rndom"; allowed: grid, random')


def test_the_sweep_configuration_is_kept_unchanged() -> None:
    assert parse().sweep_configuration == SWEEP


def test_a_section_without_a_sweep_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^c: hpo\.sweep_configuration is missing"):
        parse_section({}, origin=lambda key: "c")


def test_a_sweep_to_join_needs_no_sweep_configuration() -> None:
    assert parse_section({"sweep_id": "abc"}, origin=lambda key: "c").sweep_configuration is None


def test_a_folder_becomes_absolute() -> None:
    assert parse(directory="~/sweeps").directory == Path.home() / "sweeps"
    assert parse(directory="sweeps").directory == Path.cwd() / "sweeps"


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().count = 3


def test_keys_with_free_text_are_known() -> None:
    text = {"kind", "project", "entity", "sweep_id", "directory", "on_end", "on_failure"}
    text |= {"seed_parameter", "deadline"}
    assert {key for key in HpoSection.model_fields if is_text(key)} == text


def test_the_schema_describes_every_key_in_a_line() -> None:
    properties = section_schema()["properties"]
    assert set(properties) == set(HpoSection.model_fields)
    assert all(entry["description"] and "\n" not in entry["description"] for entry in properties.values())
    assert section_schema()["additionalProperties"] is False

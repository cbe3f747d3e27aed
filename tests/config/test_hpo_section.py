"""The `hpo` section: defaults, valid values, and the messages about invalid ones."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

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
from parallel_hpo.core.values import deadline_at

SWEEP: Final = {"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}
BEGAN: Final = 1_800_000_000.0


def parse(**keys: Any) -> HpoSection:
    return parse_section({"sweep_configuration": SWEEP, **keys}, origin=lambda key: f"at {key}")


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
    assert (section.devices, section.workers_per_device, section.devices_per_worker) == ("auto", 1, 1)
    assert (section.preload, section.faults) == ([], [])
    assert section.start_method is StartMethod.FORKSERVER
    assert section.directory.name == "parallel_hpo"


@pytest.mark.parametrize("engine", ["auto", "wandb", None])
def test_the_former_key_engine_is_refused_with_advice(engine: object) -> None:
    assert refusal(engine=engine) == (
        "at engine: hpo.engine: parallel_hpo has one search engine: leave this key out;"
        " for W&B's engine run `wandb sweep-scheduler` of your own"
    )


WORKERS: Final = "a whole number of 1"
WRONG: Final[dict[str, tuple[list[Any], str]]] = {
    "count": ([0, -1, "2", True, 2.5], "a whole number of 1 or more, or null for no limit"),
    "workers": ([0, "many", True, 2.0], ""),
    "workers_per_device": ([0, -1, True, "2", 1.5], f'"auto" or {WORKERS}'),
    "devices_per_worker": ([0, -1, True, "2", 1.5], WORKERS),
    "devices": (
        [[], "", "gpu", [True], True, [-1], -1, [1.5], None, {}, ["0,1"], [[0]], "0,"],
        '"auto", "cpu", or a list',
    ),
    "preload": ([["a b"], [""], ["a..b"], [1], {"a": 1}], "a list of names of modules"),
    "faults": (
        [[fault] for fault in ({"pattern": "x"}, {"pattern": "(", "action": "keep"}, {}, "x")]
        + [[{"pattern": "x", "action": "burn"}]],
        'a list of tables with "pattern"',
    ),
    "deadline": (
        [
            *("soon", "", "3x", "h", "0s", "-5s", "18:30", "2026-12-24", "2026-13-24 18:30"),
            *(0, -1, True, float("inf"), 10**400, "9" * 400, "9" * 400 + "d", [1], {}, date(2026, 12, 24)),
        ],
        "",
    ),
    "seed": ([-1, 2**63, 1.5, True, "x"], ""),
    "on_end": (["", []], ""),
    "on_failure": (["a 'b", 3], ""),
    "notify": ([3], ""),
    "kind": ([None], ""),
    "apply": ([1], ""),
    "sweep_configuration": ([[]], ""),
    **{key: (["", 3], "") for key in ("project", "entity", "sweep_id")},
    "backend": (["cloud", 1], ""),
    "retries": ([-1, "1"], ""),
    "grace_period_s": ([0, True, float("nan"), float("inf")], ""),
    "start_method": (["fork"], ""),
    "directory": ([3, "", "~nobody-of-this-name/x"], ""),
}
"""Invalid values of each key, and the beginning of the allowed ones in the message."""


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (all_, _) in WRONG.items() for value in all_]
)
def test_an_invalid_value_is_refused_in_one_line_with_the_allowed_ones(key: str, value: object) -> None:
    message = refusal(**{key: value})
    assert message.startswith(f"at {key}: hpo.{key} is ")
    assert f"; allowed: {WRONG[key][1]}" in message
    assert "\n" not in message


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
    ("value", "devices"),
    [
        *(("auto", "auto"), ("cpu", "cpu"), ([0, 1], ["0", "1"]), ("0,1", ["0", "1"]), (2, ["2"])),
        *((names, names) for names in (["3", "GPU-1a2b", "MIG-3c-4d"], ["MIG-GPU-1a/7/0"])),
    ],
)
def test_devices_are_tokens_of_a_mask(value: object, devices: object) -> None:
    assert parse(devices=value).devices == devices


def test_preload_needs_a_fork_server() -> None:
    assert "hpo.preload needs a fork server, " in refusal(preload=["numpy"], start_method="spawn")


def test_faults_are_patterns_with_an_action() -> None:
    (fault,) = parse(faults=[{"pattern": "no (good|luck)", "action": "recycle"}]).faults
    assert (fault.pattern, fault.action) == ("no (good|luck)", "recycle")


def moment(deadline: Any) -> float:
    text = parse(deadline=deadline).deadline
    assert text is not None
    return deadline_at(text, BEGAN)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        *((90, 90), (0.5, 0.5), (1e-05, 1e-05), (1e300, 1e300), ("90", 90), ("10000000000000000", 1e16)),
        *(("22s", 22), ("3h30m", 12600), ("1d 2h", 93600), ("1.5H", 5400), ("2m5s", 125), ("1w1d", 691200)),
    ],
)
def test_a_deadline_as_a_duration_counts_from_the_start(duration: Any, seconds: float) -> None:
    assert moment(duration) == BEGAN + seconds


def test_a_deadline_as_a_time_is_independent_of_the_start_and_local_without_a_zone() -> None:
    there = datetime(2026, 12, 24, 18, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment("2026-12-24T18:30+02:00") == moment(there) == there.timestamp()
    assert moment("2026-12-24T16:30Z") == datetime(2026, 12, 24, 16, 30, tzinfo=UTC).timestamp()
    local = datetime.fromisoformat("2026-12-24 18:30")
    assert moment("2026-12-24 18:30") == moment(local) == local.timestamp()


@pytest.mark.parametrize("deadline", [90, 1e-05, 1e16, "3h30m", "2026-12-24 18:30"])
def test_a_deadline_means_the_same_on_all_machines(deadline: Any) -> None:
    told = json.loads(parse(deadline=deadline).model_dump_json())["deadline"]
    assert parse(deadline=told).deadline == told
    assert moment(told) == moment(deadline)
    if isinstance(deadline, str) and "-" in deadline:
        assert datetime.fromisoformat(told).utcoffset() is not None


def test_a_seed_may_be_0_and_a_seed_parameter_needs_a_seed_and_a_new_name() -> None:
    assert parse(seed=0).seed == 0
    assert parse(seed=1, seed_parameter="seed").seed_parameter == "seed"
    assert "seed is missing" in refusal(seed_parameter="seed")
    assert "one of the sweep's own parameters" in refusal(seed=1, seed_parameter="lr")
    assert "parallel_hpo_seed" in refusal(sweep_configuration={**SWEEP, "parallel_hpo_seed": 1})


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    message = refusal(worker=2)
    assert message.startswith("at worker: hpo.worker: unknown key; did you mean 'workers'? known: kind, ")
    raw: dict[Any, Any] = {"sweep_configuration": SWEEP, 7: 1}
    with pytest.raises(ConfigError, match=r"^c: hpo\.7: unknown key"):
        parse_section(raw, origin=lambda key: "c")


def test_several_errors_have_one_line_each_with_the_value_cut_and_what_is_allowed() -> None:
    assert "3h30m" in refusal(deadline="soon") and "with its date" in refusal(deadline="soon")
    assert refusal(count="2").startswith('at count: hpo.count is "2"; ')
    assert len(refusal(count=0, retries=-1, zzz=1).splitlines()) == 3
    assert len(refusal(count="9" * 10_000)) < 200


def test_a_sweep_configuration_is_checked_and_required_unless_a_sweep_is_joined() -> None:
    assert parse().sweep_configuration == SWEEP
    message = refusal(sweep_configuration={**SWEEP, "method": "rndom"})
    assert message.startswith(
        'at sweep_configuration: hpo.sweep_configuration.method is "rndom"; allowed: grid, random'
    )
    with pytest.raises(ConfigError, match=r"^c: hpo\.sweep_configuration is missing"):
        parse_section({}, origin=lambda key: "c")
    assert parse_section({"sweep_id": "abc"}, origin=lambda key: "c").sweep_configuration is None


def test_the_directory_becomes_absolute() -> None:
    assert parse(directory="~/sweeps").directory == Path.home() / "sweeps"
    assert parse(directory="sweeps").directory == Path.cwd() / "sweeps"


def test_keys_with_free_text_are_known() -> None:
    text = {"kind", "project", "entity", "sweep_id", "directory", "on_end", "on_failure"}
    text |= {"seed_parameter", "deadline"}
    assert {key for key in HpoSection.model_fields if is_text(key)} == text


def test_the_schema_describes_every_key_in_a_line() -> None:
    properties = section_schema()["properties"]
    assert set(properties) == set(HpoSection.model_fields)
    assert all(entry["description"] and "\n" not in entry["description"] for entry in properties.values())
    assert section_schema()["additionalProperties"] is False

"""Errors of configurations: one line with file and key path."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SWEEP = {"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def written(folder: Path, content: Any) -> None:
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


def section(**keys: Any) -> dict[str, Any]:
    return {"hpo": {"sweep_configuration": SWEEP, **keys}}


def sweep(**keys: Any) -> dict[str, Any]:
    return section(sweep_configuration={**SWEEP, **keys})


def lr(**keys: Any) -> dict[str, Any]:
    return sweep(parameters={"lr": keys})


CASES: dict[str, tuple[Any, str]] = {
    "broken JSON": ('{"hpo": {', "config.json: broken JSON at line 1, column 10: "),
    "unknown kind": (section(kind="none"), 'config.json: hpo.kind is "none"; known: wandb_sweeps'),
    "count 0": (section(count=0), "config.json: hpo.count is 0; allowed: "),
    "count -1": (section(count=-1), "config.json: hpo.count is -1; allowed: "),
    'count "2"': (section(count="2"), 'config.json: hpo.count is "2"; allowed: '),
    "count true": (section(count=True), "config.json: hpo.count is true; allowed: "),
    "count 2.5": (section(count=2.5), "config.json: hpo.count is 2.5; allowed: "),
    "workers 0": (section(workers=0), "config.json: hpo.workers is 0; allowed: "),
    "unknown key": (section(wrokers=2), "config.json: hpo.wrokers: unknown key; did you mean 'workers'?"),
    "no sweep": ({"hpo": {}}, "config.json: hpo.sweep_configuration is missing"),
    "unknown method": (
        sweep(method="brute"),
        'config.json: hpo.sweep_configuration.method is "brute"; allowed: ',
    ),
    "bayes without metric": (sweep(method="bayes"), "config.json: hpo.sweep_configuration.metric is missing"),
    "no bounds": (lr(distribution="uniform"), "config.json: hpo.sweep_configuration.parameters.lr.m"),
    "min above max": (lr(min=2.0, max=1.0), "config.json: hpo.sweep_configuration.parameters.lr.m"),
    "grid over a continuum": (sweep(method="grid"), "config.json: hpo.sweep_configuration.parameters.lr"),
    "no section": ({"mine": 1}, "config.json: has no 'hpo' section, and is not a W&B sweep file"),
    "wrong plain sweep file": (
        {**SWEEP, "method": "brute"},
        'config.json: sweep.method is "brute"; allowed: ',
    ),
    "not applied": (section(apply=False), "config.json: hpo.apply is false"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_configuration_gets_one_clear_line_and_exit_code_2(
    case: str, tmp_path: Path, command: Command
) -> None:
    content, words = CASES[case]
    written(tmp_path, content)
    done = command("run", "config.json", "train:main")
    assert done.stderr.startswith(f"error: {words}")
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "home" / ".local").exists()


def test_a_missing_file_is_named(command: Command) -> None:
    done = command("run", "none.json", "train:main")
    assert done.stderr == "error: none.json: can't be read: No such file or directory\n"
    assert done.returncode == 2


def test_a_wrong_flag_is_named(tmp_path: Path, command: Command) -> None:
    written(tmp_path, section())
    done = command("run", "config.json", "train:main", "--count", "many")
    assert done.stderr.startswith('error: flag --count: hpo.count is "many"; allowed: ')
    assert done.returncode == 2


def test_a_wrong_variable_is_named(tmp_path: Path, command: Command) -> None:
    written(tmp_path, section())
    done = command("run", "config.json", "train:main", PARALLEL_HPO_RETRIES="-1")
    assert done.stderr.startswith(
        "error: environment variable PARALLEL_HPO_RETRIES: hpo.retries is -1; allowed: "
    )


@pytest.mark.parametrize(
    "target", ["train", "train.py", "train:", ":main", "train.py:1st", "a-b:main", "/x/y:main"]
)
def test_an_invalid_target_is_refused(target: str, tmp_path: Path, command: Command) -> None:
    written(tmp_path, section())
    done = command("run", "config.json", target)
    assert done.stderr.startswith(f"error: TARGET {target!r}")
    assert "allowed: package.module:function or file.py:function" in done.stderr
    assert done.returncode == 2


def test_a_missing_target_is_refused(tmp_path: Path, command: Command) -> None:
    written(tmp_path, section())
    done = command("run", "config.json", "--", "--epochs", "3")
    assert done.stderr.startswith("error: TARGET is missing: ")
    assert done.returncode == 2


def test_inside_a_worker_no_sweep_is_started(tmp_path: Path, command: Command) -> None:
    written(tmp_path, section())
    done = command("run", "config.json", "train:main", PARALLEL_HPO_WORKER="0")
    assert done.stderr.startswith("error: this is a worker of a sweep")
    assert done.returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "config.json", "train.py:main", f"--{option}", ""] for option in ("resume", "sweep-id")),
        ["run", "config.json", "train.py:main", "--machines", "{}", "--resume", ""],
        *([verb, ""] for verb in ("join", "open", "status", "logs", "export", "report", "cancel", "clean")),
    ],
    ids=" ".join,
)
def test_an_empty_sweep_id_is_refused(words: list[str], tmp_path: Path, command: Command) -> None:
    """`--resume "$SWEEP"` must not start a new sweep."""
    written(tmp_path, section(count=1, directory="made"))
    (tmp_path / "train.py").write_text("def main(): open('called', 'w')")
    done = command(*words, *(["--format", "csv"] if "export" in words else []))
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert '""' in done.stderr or "''" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "called").exists()


def test_an_unknown_option_is_a_usage_error(command: Command) -> None:
    done = command("run", "config.json", "train:main", "--wrokers", "2")
    assert "--wrokers" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


def test_arguments_without_a_target_are_refused(command: Command) -> None:
    done = command("schema", "--", "x")
    assert "schema takes nothing after --" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")

"""Invalid calls and configurations: a one-line error, exit code 2, and nothing started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command

SWEEP = {"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}
RUN = ("run", "config.json", "train:main")
ARE_ALLOWED = "allowed: package.module:function or file.py:function"


def written(folder: Path, content: Any) -> None:
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


def section(**keys: Any) -> dict[str, Any]:
    return {"hpo": {"sweep_configuration": SWEEP, **keys}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"hpo": {', "config.json: broken JSON at line 1, column 10: "),
        (section(kind="none"), 'config.json: hpo.kind is "none"; known: wandb_sweeps'),
        (section(count=0), "config.json: hpo.count is 0; allowed: "),
        (
            section(sweep_configuration={**SWEEP, "method": "brute"}),
            "config.json: hpo.sweep_configuration.meth",
        ),
        ({**SWEEP, "method": "brute"}, 'config.json: sweep.method is "brute"; allowed: '),
        ({"mine": 1}, "config.json: has no 'hpo' section, and is not a W&B sweep file"),
        (section(apply=False), "config.json: hpo.apply is false"),
    ],
)
def test_an_invalid_configuration_is_a_one_line_error(
    content: Any, words: str, tmp_path: Path, command: Command
) -> None:
    written(tmp_path, content)
    done = command(*RUN)
    assert done.stderr.startswith(f"error: {words}")
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "home" / ".local").exists()


@pytest.mark.parametrize(
    ("words", "variables", "error"),
    [
        (("run", "none.json", "train:main"), {}, "none.json: can't be read: No such file or directory"),
        ((*RUN, "--count", "many"), {}, 'flag --count: hpo.count is "many"; allowed: '),
        (
            RUN,
            {"PARALLEL_HPO_RETRIES": "-1"},
            "environment variable PARALLEL_HPO_RETRIES: hpo.retries is -1; ",
        ),
        (("run", "config.json", "--", "--epochs", "3"), {}, "TARGET is missing: "),
        (RUN, {"PARALLEL_HPO_WORKER": "0"}, "this is a worker of a sweep"),
        *(
            (("run", "config.json", target), {}, f"TARGET {target!r}")
            for target in ("train", "train.py", "train:", ":main", "train.py:1st", "a-b:main", "/x/y:main")
        ),
    ],
)
def test_an_invalid_call_fails_with_its_reason(
    words: tuple[str, ...], variables: dict[str, str], error: str, tmp_path: Path, command: Command
) -> None:
    written(tmp_path, section())
    done = command(*words, **variables)
    assert done.stderr.startswith(f"error: {error}")
    assert ("TARGET '" in error) is (ARE_ALLOWED in done.stderr)
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


@pytest.mark.parametrize(
    ("words", "error"),
    [((*RUN, "--wrokers", "2"), "--wrokers"), (("schema", "--", "x"), "schema takes nothing after --")],
)
def test_an_unknown_option_or_argument_is_a_usage_error(
    words: tuple[str, ...], error: str, command: Command
) -> None:
    done = command(*words)
    assert error in done.stderr
    assert (done.returncode, done.stdout) == (2, "")

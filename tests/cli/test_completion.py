"""Completion, called as by the shell's script."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_hpo.core.types import RunId, Slot
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_start

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("ab12", "ab34", "zz99"):
        with Ledger(tmp_path / "sweeps" / name / "ledger.db") as ledger:
            ledger.record_facts({"path": f"local/p/{name}", "backend": "local", "count": 1})
    return tmp_path / "sweeps"


def completed(command: Command, directory: Path, words: str, shell: str) -> str:
    """Return the completions of the last word."""
    variables = {
        "_PARALLEL_HPO_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "PARALLEL_HPO_DIRECTORY": str(directory),
    }
    return str(command(**variables).stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("words", ["status", "runs", "rerun", "clean", "run c.json --resume"])
def test_a_sweeps_id_is_completed(command: Command, directory: Path, words: str, shell: str) -> None:
    proposed = completed(command, directory, f"parallel-hpo {words} ab", shell)
    assert ("ab12" in proposed, "ab34" in proposed, "zz99" in proposed) == (True, True, False)


def test_completion_uses_the_named_directory(command: Command, directory: Path, tmp_path: Path) -> None:
    words = f"parallel-hpo runs --directory {directory} z"
    assert completed(command, tmp_path / "empty", words, "bash") == "zz99\n"


def test_a_runs_id_is_completed(command: Command, directory: Path) -> None:
    with Ledger(directory / "ab12" / "ledger.db") as ledger:
        for run in ("r1", "r2"):
            record_start(ledger, RunId(run), parameters={}, attempt=1, slot=Slot(0), device=None)
    assert completed(command, directory, "parallel-hpo rerun ab12 r", "bash").split() == ["r1", "r2"]
    assert completed(command, directory, "parallel-hpo rerun ab12 b", "bash").split() == ["best"]
    assert completed(command, directory, "parallel-hpo rerun nothing b", "bash").split() == []


def test_a_commands_name_is_completed(command: Command, directory: Path) -> None:
    assert "resume" in completed(command, directory, "parallel-hpo re", "bash")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_script_asks_the_command(command: Command, shell: str, tmp_path: Path) -> None:
    script = command(_PARALLEL_HPO_COMPLETE=f"source_{shell}").stdout
    assert f"_PARALLEL_HPO_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        checked = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")

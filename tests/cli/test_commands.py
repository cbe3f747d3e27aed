"""Commands as a user calls them: help, plans, listings, `doctor`, and completion in a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parallel_hpo.cli.options import PANELS, parse_target
from parallel_hpo.cli.output import show_table
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.core.version import __version__
from parallel_hpo.records.ledger import Ledger
from tests.cli.conftest import Command
from tests.cli.folders import DONE, leave_sweep
from tests.ledgers import record_start
from tests.pseudo_terminal import PseudoTerminal

SWEEP = {"method": "grid", "parameters": {"a": {"values": [1, 2]}, "b": {"values": ["x", "y"]}}}


def test_every_plain_key_of_the_section_is_an_option_in_one_panel_of_the_help(command: Command) -> None:
    shown = command("run", "--help").stdout
    missing = {key for key in HpoSection.model_fields if f"--{key.replace('_', '-')} " not in shown}
    assert missing == {"kind", "apply", "sweep_configuration"}
    assert sorted(key for panel in PANELS.values() for key in panel) == sorted(
        HpoSection.model_fields.keys() - missing
    )


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("train:main", Target("train", "main", ("-x",))),
        ("package.train:main", Target("package.train", "main", ("-x",))),
        ("./some folder/train.py:main", Target("./some folder/train.py", "main", ("-x",))),
    ],
)
def test_a_target_is_a_module_or_a_file_and_a_function(text: str, target: Target) -> None:
    assert parse_target(text, ("-x",)) == target


def test_version_and_schema_are_printed_on_stdout(command: Command) -> None:
    version, schema = command("--version"), command("schema")
    assert version.stdout == f"parallel-hpo {__version__}\n"
    assert set(json.loads(schema.stdout)["properties"]) == set(HpoSection.model_fields)
    for done in (version, schema):
        assert (done.returncode, done.stderr) == (0, "")


def test_the_command_without_arguments_shows_the_help(command: Command) -> None:
    done = command()
    assert "run" in done.stdout + done.stderr
    assert done.returncode == 2


def test_a_dry_run_prints_the_plan_on_stderr_and_starts_nothing(tmp_path: Path, command: Command) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(SWEEP))
    given = ("--count", "3", "--workers", "2", "--deadline", "3h", "--directory", "made")
    done = command("run", "sweep.json", "--dry-run", *given)
    assert (done.returncode, done.stdout) == (0, "")
    assert "runs: 3\ndeadline: 3h\n" in done.stderr
    assert "shares 2, 1" in done.stderr
    assert "OMP_NUM_THREADS=" in done.stderr
    assert '  {"a": 1, "b": "x"}\n  {"a": 1, "b": "y"}\n  {"a": 2, "b": "x"}' in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_dry_run_as_json_is_printed_on_stdout(tmp_path: Path, command: Command) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(SWEEP))
    done = command("run", "sweep.json", "train:main", "--dry-run", "--json", "--count", "1", "--workers", "1")
    plan = json.loads(done.stdout)
    assert (plan["workers"], plan["shares"]) == (1, [1])
    assert plan["suggestions"] == [{"a": 1, "b": "x"}]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dry_run_with_a_seed_shows_the_sweeps_suggestions(tmp_path: Path, command: Command) -> None:
    drawn = {"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}
    (tmp_path / "sweep.json").write_text(json.dumps(drawn))
    done = command("run", "sweep.json", "train:main", "--dry-run", "--seed", "7", "--backend", "local")
    assert 'first suggestions:\n  {"x": 0.8699742573253721}' in done.stderr


def test_status_warns_about_an_unreadable_ledger(tmp_path: Path, command: Command) -> None:
    for name in ("whole", "broken", "empty"):
        with Ledger(tmp_path / name / "ledger.db") as ledger:
            ledger.record_facts({"path": f"local/p/{name}", "backend": "local", "count": 1})
    (tmp_path / "broken" / "ledger.db").write_bytes(b"no ledger" * 1000)
    (tmp_path / "empty" / "ledger.db").write_bytes(b"")
    done = command("status", "--directory", str(tmp_path), "--json")
    assert [known["sweep"] for known in json.loads(done.stdout)] == ["whole"]
    assert done.returncode == 0
    assert sorted(line.partition(" can't be read")[0] for line in done.stderr.splitlines()) == [
        f"warning: {tmp_path}/broken/ledger.db",
        f"warning: {tmp_path}/empty/ledger.db",
    ]


def test_characters_missing_in_the_encoding_are_escaped(tmp_path: Path, clean_env: dict[str, str]) -> None:
    leave_sweep(tmp_path / "one", [0.5], facts={**DONE, "name": "grün"})
    words = (sys.executable, "-m", "parallel_hpo", "status", "one", "--directory", str(tmp_path))
    environment = clean_env | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xfcn" in done.stdout


def test_runs_has_a_column_for_each_parameter(tmp_path: Path, command: Command) -> None:
    leave_sweep(tmp_path / "one", [0.5, 0.25])
    heading, first, second = command("runs", "one", "--directory", str(tmp_path)).stdout.splitlines()
    assert heading.split()[-2:] == ["optim.lr", "layers"]
    assert (first.split()[-2:], second.split()[-2:]) == (["0.0", "[0]"], ["0.1", "[1]"])


def test_control_characters_are_escaped_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"reason": "\x1b]0;owned\x07[red]\nx", "[b]": 1}])
    assert capsys.readouterr().out.splitlines()[1].split() == [r"\x1b]0;owned\x07[red]\nx", "1"]


def test_status_fits_the_terminal_and_names_omitted_columns(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    leave_sweep(tmp_path / "one", [0.5], facts=DONE | {"began_at": 0.0})
    command = [sys.executable, "-m", "parallel_hpo", "status", "--directory", str(tmp_path)]
    with PseudoTerminal(command, env=clean_env | {"TZ": "UTC"}, folder=tmp_path) as terminal:
        assert terminal.finish() == 0
        heading, row, left_out = terminal.rows()
    assert heading.split()[:2] == ["sweep", "date"]
    assert row.split()[:3] == ["one", "1970-01-01", "00:00"]
    assert left_out.startswith("not shown: folder")


def test_doctor_prints_findings_as_lines_with_advice(tmp_path: Path, command: Command) -> None:
    sweep = {"method": "random", "metric": {"name": "loss"}, "parameters": {"x": {"value": 1}}}
    section = {"backend": "local", "directory": "sweeps", "sweep_configuration": sweep}
    (tmp_path / "config.json").write_text(json.dumps({"hpo": section}))
    (tmp_path / "train.py").write_text("def main(): pass\n")
    done = command("doctor", "config.json", "train.py:main", WANDB_AGENT_DISABLE_FLAPPING="true")
    assert done.returncode == 0, done.stdout
    assert "GOOD     target: train.py:main can be loaded, called and pickled\n" in done.stdout
    assert "GOOD     metric: whether runs log 'loss' is checked only when they run" in done.stdout
    assert "WARNING  environment: WANDB_AGENT_DISABLE_FLAPPING=true ends" in done.stdout
    assert "→ unset WANDB_AGENT_DISABLE_FLAPPING\n" in done.stdout


def test_doctor_exits_with_code_1_on_an_invalid_configuration(tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hpo": {"wrokers": 3}}))
    lines, told = command("doctor", "config.json"), command("doctor", "config.json", "--json")
    assert (lines.returncode, told.returncode, json.loads(told.stdout)["ok"]) == (1, 1, False)
    assert "BAD      configuration: config.json: hpo.wrokers: unknown key" in lines.stdout
    assert "GOOD     wandb: version" in lines.stdout


def test_doctor_checks_the_machine_without_a_configuration(command: Command) -> None:
    done = command("doctor", "--json")
    assert {"driver", "mask", "workers", "wandb", "open files"} <= {
        finding["subject"] for finding in json.loads(done.stdout)["findings"]
    }


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
            record_start(ledger, run)
    assert completed(command, directory, "parallel-hpo rerun ab12 r", "bash").split() == ["r1", "r2"]
    assert completed(command, directory, "parallel-hpo rerun ab12 b", "bash").split() == ["best"]
    assert completed(command, directory, "parallel-hpo rerun nothing b", "bash").split() == []


def test_a_commands_name_is_completed(command: Command, directory: Path) -> None:
    assert "resume" in completed(command, directory, "parallel-hpo re", "bash")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_completion_script_runs_the_command(command: Command, shell: str, tmp_path: Path) -> None:
    script = command(_PARALLEL_HPO_COMPLETE=f"source_{shell}").stdout
    assert f"_PARALLEL_HPO_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        checked = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")

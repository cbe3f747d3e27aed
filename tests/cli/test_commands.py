from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_hpo.cli.options import parse_target
from parallel_hpo.cli.output import show_table
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.core.version import __version__
from parallel_hpo.records.ledger import Ledger
from tests.cli.folders import DONE, leave_sweep
from tests.pseudo_terminal import PseudoTerminal

SWEEP = {"method": "grid", "parameters": {"a": {"values": [1, 2]}, "b": {"values": ["x", "y"]}}}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_plain_key_of_the_section_is_an_option(command: Command) -> None:
    shown = command("run", "--help").stdout
    missing = {key for key in HpoSection.model_fields if f"--{key.replace('_', '-')} " not in shown}
    assert missing == {"kind", "apply", "sweep_configuration"}


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


def test_the_version_is_printed_on_stdout(command: Command) -> None:
    done = command("--version")
    assert done.stdout == f"parallel-hpo {__version__}\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_is_printed_on_stdout(command: Command) -> None:
    done = command("schema")
    assert set(json.loads(done.stdout)["properties"]) == set(HpoSection.model_fields)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_alone_shows_the_help(command: Command) -> None:
    done = command()
    assert "run" in done.stdout + done.stderr
    assert done.returncode == 2


def test_a_dry_run_shows_the_plan_to_people_on_stderr_and_starts_nothing(
    tmp_path: Path, command: Command
) -> None:
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


def test_a_dry_run_with_a_seed_shows_what_the_sweep_will_draw(tmp_path: Path, command: Command) -> None:
    drawn = {"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}
    (tmp_path / "sweep.json").write_text(json.dumps(drawn))
    done = command("run", "sweep.json", "train:main", "--dry-run", "--seed", "7", "--backend", "local")
    assert 'first suggestions:\n  {"x": 0.8699742573253721}' in done.stderr


def test_an_unreadable_ledger_is_a_warning(tmp_path: Path, command: Command) -> None:
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


def test_control_characters_are_visible_in_tables(capsys: pytest.CaptureFixture[str]) -> None:
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

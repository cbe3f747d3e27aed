"""`parallel-hpo export` of an ended sweep's folder, without a server."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from parallel_hpo.cli.output import whole_file
from parallel_hpo.core.errors import UsageError
from tests.analysis.sweeps import keep_summary
from tests.cli.conftest import Command
from tests.cli.folders import leave_sweep
from tests.storages import storage_in


@pytest.fixture
def export(command: Command, tmp_path: Path) -> Command:
    """Export the sweep `one` into the folder `out`."""
    leave_sweep(tmp_path / "one", [0.5, None])
    keep_summary(tmp_path / "one", "one-0", {"acc": float("nan")})
    (tmp_path / "out").mkdir()

    def call(wanted: str, *words: str, sweep: str = "one") -> subprocess.CompletedProcess[str]:
        return command("export", sweep, "--format", wanted, *words, "--directory", str(tmp_path))

    return call


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


def test_csv_is_the_same_as_from_runs_and_in_a_file(
    export: Command, command: Command, tmp_path: Path
) -> None:
    text = export("csv").stdout
    assert command("runs", "one", "--csv", "--directory", str(tmp_path)).stdout == text
    assert text.splitlines()[1] == "one-0,finished,0.5,2.0,,1,0,,1000.0,0.0,[0],NaN"
    done = export("csv", "-o", "out/runs.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out/runs.csv\n", "")
    assert (tmp_path / "out" / "runs.csv").read_text() == text


def test_json_has_the_result_and_each_runs_summary(export: Command) -> None:
    told = json.loads(export("json").stdout, parse_constant=pytest.fail)
    assert (told["sweep_id"], told["metric"], told["finished"], told["failed"]) == ("one", "loss", 1, 1)
    assert [run["summary"] for run in told["runs"]] == [{"acc": "NaN"}, {}]
    assert told["runs"][0]["parameters"] == {"optim": {"lr": 0.0}, "layers": [0]}


def test_parquet_can_be_written_to_a_named_pipe(export: Command, tmp_path: Path) -> None:
    assert export("parquet", "-o", "out/runs.parquet").returncode == 0
    os.mkfifo(tmp_path / "out" / "pipe")
    words = ["cat", str(tmp_path / "out" / "pipe")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as reader:
        assert export("parquet", "-o", "out/pipe").returncode == 0
        assert reader.stdout is not None
        assert reader.stdout.read() == (tmp_path / "out" / "runs.parquet").read_bytes()
    assert (tmp_path / "out" / "pipe").is_fifo()


def test_a_dash_or_the_device_of_stdout_means_stdout(export: Command, tmp_path: Path) -> None:
    text = export("csv").stdout
    for stdout in ("-", "/dev/stdout", "/dev/fd/1"):
        done = export("csv", "-o", stdout)
        assert (done.returncode, done.stdout, done.stderr) == (0, text, "")
    assert not (tmp_path / "-").exists()
    reader, writer = os.pipe()
    assert export("csv", "-o", f"/proc/{os.getpid()}/fd/{writer}").returncode == 0
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == text, "a pipe of the shell"
    assert "can't go to stdout: name a file by -o FILE" in export("optuna", "-o", "-").stderr


@pytest.mark.parametrize(
    "name", ["team/digits/one", "one/", "/elsewhere/one", "http://x/team/sweeps/one?ticket=7"]
)
def test_a_sweep_can_be_named_by_a_path_a_folder_or_an_address(export: Command, name: str) -> None:
    assert export("csv", sweep=name).stdout == export("csv").stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, f"there is no sweep {name} in ") for name in ("*", "o?e", "one/ledger.db")),
        *((name, f"{name!r} names no sweep") for name in ("", "/")),
    ],
)
def test_a_pattern_or_an_empty_name_is_refused_as_a_sweep(export: Command, name: str, words: str) -> None:
    done = export("csv", sweep=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_an_optuna_storage_needs_a_file_of_its_own(export: Command, tmp_path: Path) -> None:
    assert "can't go to stdout: name a file by -o FILE" in export("optuna").stderr
    (tmp_path / "out" / "notes").write_text("mine")
    done = export("optuna", "-o", "out/notes")
    assert (done.returncode, (tmp_path / "out" / "notes").read_text(), files(tmp_path)) == (
        2,
        "mine",
        ["notes"],
    )


@pytest.mark.parametrize("wanted", ["csv", "json", "parquet"])
def test_a_file_is_replaced_atomically(export: Command, tmp_path: Path, wanted: str) -> None:
    file = tmp_path / "out" / "file"
    (tmp_path / "out" / "link").symlink_to("file")
    file.write_text("before")
    export(wanted, "-o", "out/link")
    assert b"one-0" in file.read_bytes()
    assert files(tmp_path) == ["file", "link"]
    (tmp_path / "one" / "ledger.db").write_bytes(b"damaged" * 1000)
    assert export(wanted, "-o", "out/link").returncode == 1
    assert b"one-0" in file.read_bytes()
    assert files(tmp_path) == ["file", "link"]


@pytest.mark.parametrize(
    ("wanted", "file", "why"),
    [
        ("csv", "/dev/full", "/dev/full can't be written: No space left on device"),
        ("optuna", "/dev/full", "/dev/full is not a regular file"),
        ("json", "nowhere/file", "nowhere/file can't be written: No such file or directory"),
        ("optuna", "nowhere/file", "nowhere/file can't be written: No such file or directory"),
        ("parquet", "out", "out can't be written: Is a directory"),
        ("optuna", "one/ledger.db/file", "can't be written: "),
    ],
)
def test_an_unwritable_file_leaves_no_draft(
    export: Command, tmp_path: Path, wanted: str, file: str, why: str
) -> None:
    done = export(wanted, "-o", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert files(tmp_path) == []


@pytest.mark.parametrize("wanted", ["csv", "parquet"])
def test_a_closed_stdout_is_an_error(tmp_path: Path, wanted: str) -> None:
    leave_sweep(tmp_path / "one", [0.5])
    command = f"{sys.executable} -m parallel_hpo export one --format {wanted} --directory {tmp_path} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"error: stdout can't be written: it is closed\n")


def test_an_unknown_sweep_or_format_is_refused_with_the_known_ones(export: Command) -> None:
    assert "there: one" in export("csv", sweep="two").stderr
    assert "'csv', 'parquet', 'json', 'optuna'" in export("xml").stderr


def fill_the_disk(file: Path) -> None:
    with whole_file(file) as draft:
        draft.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(UsageError, match=r"file can't be written: No space left on device; name another"):
        fill_the_disk(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_the_suffix_chooses_the_format_and_a_storage_has_each_sweep_once(
    command: Command, tmp_path: Path
) -> None:
    leave_sweep(tmp_path / "one", [0.5])
    words = ("export", "one", "--directory", str(tmp_path))
    assert command(*words, "-o", "runs.CSV").returncode == 0
    assert (tmp_path / "runs.CSV").read_text() == command(*words, "--format", "csv").stdout
    assert command(*words, "-o", "runs.log").returncode == 0
    leave_sweep(tmp_path / "two", [1.0, 2.0])
    for sweep in ("two", "two"):
        command("export", sweep, *words[2:], "-o", "runs.log")
    assert sorted(optuna.get_all_study_names(storage_in(tmp_path / "runs.log"))) == ["one", "two"]
    for unclear in ((), ("-o", "runs.txt")):
        refused = command(*words, *unclear)
        assert (refused.returncode, "--format (csv, parquet, json, optuna)" in refused.stderr) == (2, True)

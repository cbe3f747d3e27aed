"""Folders and terminals that are not as usual: the sweep is whole, or one line says what is in the way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.processes.conftest import RANDOM, RealSweep, outcomes

CLOSED_STDERR = ("bash", "-c", 'exec "$@" 2>&-', "bash", sys.executable)
DELETED_FOLDER = ("bash", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "bash", sys.executable)


SCRIPT = """
import sys
from parallel_hpo import ConfigLoader

ConfigLoader(sys.argv[1]).hpo.optimize(print)
"""


def test_a_folder_of_special_characters_and_a_closed_stderr_are_no_trouble(sweep: RealSweep) -> None:
    sweep.directory = sweep.folder / "a#b?c%d e" / "ü日本"
    sweep.launcher = CLOSED_STDERR
    ended = sweep.start("quick", count=2, workers=1).finish()
    assert ended.code == 0, ended.stdout
    assert outcomes(json.loads(ended.stdout)) == ["finished"] * 2
    told = sweep.start_command("-m", "parallel_hpo", "status", "--directory", str(sweep.directory), "--json")
    assert [known["finished"] for known in json.loads(told.finish().stdout)] == [2]


@pytest.mark.parametrize("relative", [True, False])
def test_a_deleted_working_directory_is_one_line(sweep: RealSweep, relative: bool) -> None:
    sweep.launcher = DELETED_FOLDER
    sweep.directory = Path("kept") if relative else sweep.folder / "kept"
    ended = sweep.start("quick", count=1).finish()
    assert ended.code == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "the working directory" in ended.stderr and "deleted" in ended.stderr
    assert not (sweep.folder / "kept").exists()


def test_a_directory_below_a_file_is_one_line_before_there_is_a_server(sweep: RealSweep) -> None:
    (sweep.folder / "file").touch()
    sweep.directory = sweep.folder / "file" / "sweeps"
    ended = sweep.start("quick", count=1).finish()
    assert ended.code == 2, ended.stderr
    assert ended.stderr.startswith(f"error: hpo.directory is {sweep.directory}, which can't be written")
    assert ended.stderr.count("\n") == 1


def test_a_script_in_a_deleted_folder_gets_an_error_of_ours(sweep: RealSweep, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "c.json").write_text(json.dumps({"hpo": {"sweep_configuration": RANDOM, "count": 1}}))
    sweep.launcher = DELETED_FOLDER
    ended = sweep.start_command(str(script), str(tmp_path / "c.json")).finish()
    assert ended.code == 1
    assert "UsageError: the working directory has been deleted" in ended.stderr

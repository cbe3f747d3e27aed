"""Sweeps without a fault in various surroundings: functions, scripts, odd folders, and secrets."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.processes.conftest import MAINS, RANDOM, Ended, RealSweep, command_line, outcomes
from tests.processes.consistency import rows


@pytest.fixture(scope="module")
def curious(new_sweep: Callable[[], RealSweep]) -> RealSweep:
    """Ten runs that journal what they find, in a sweep that another run's process starts."""
    sweep = new_sweep()
    sweep.env |= {"WANDB_RUN_ID": "parent", "RANK": "3", "WANDB_SERVICE": "1-2-3", "OMP_NUM_THREADS": "7"}
    bayes = RANDOM | {"method": "bayes", "metric": {"name": "loss", "goal": "maximize"}}
    sweep.start("curious", sweep=bayes, count=10, workers=3, arguments=("--", "--epochs", "3")).finish()
    return sweep


def test_ten_runs_on_three_workers_are_exactly_ten_distinct_runs(curious: RealSweep) -> None:
    ended, entries = curious.ended, curious.entries()
    assert ended.code == 0, ended.stderr
    assert len({entry.run_id for entry in entries}) == len(entries) == 10
    assert len({entry.pid for entry in entries}) == 3
    assert outcomes(ended.summary) == ["finished"] * 10
    assert json.loads(ended.stdout) == ended.summary
    assert curious.server_rows("SELECT state FROM sweeps") == [("FINISHED",)]


def test_the_best_run_is_chosen_by_the_summary_that_main_defines(curious: RealSweep) -> None:
    summary = curious.ended.summary
    best = max(run["parameters"]["x"] for run in summary["runs"])
    assert summary["best"]["value"] == pytest.approx(best + 2)
    assert (summary["metric"], summary["goal"]) == ("loss", "maximize")


def test_main_runs_in_the_main_thread_with_its_own_signals_random_numbers_and_environment(
    curious: RealSweep,
) -> None:
    entries = curious.entries()
    assert all(entry.facts["in_main_thread"] and entry.facts["heard"] for entry in entries)
    assert {entry.facts["stdin"] for entry in entries} == {""}
    for name in ("random", "numpy"):
        assert len({entry.facts[name] for entry in entries}) == 10
    for entry in entries:
        environment = entry.facts["environment"]
        assert environment["WANDB_RUN_ID"] == environment["PARALLEL_HPO_RUN_ID"] == entry.run_id
        assert (environment["PARALLEL_HPO_WORKERS"], environment["OMP_NUM_THREADS"]) == ("3", "7")
        assert "RANK" not in environment
        assert entry.facts["argv"] == [str(MAINS), "--epochs", "3"]


TALKING = """
import sys
import wandb

def talk():
    with wandb.init() as run:
        print("said by", run.id)
        print("complained by", run.id, file=sys.stderr)
        run.log({"loss": 1.0})
    sys.stdout.close()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_the_output_of_each_run_is_on_the_server_and_in_its_folder(sweep: RealSweep, method: str) -> None:
    """1. A run prints, and closes its output. 2. The next one in its worker prints too."""
    (mains := sweep.folder / "talking.py").write_text(TALKING)
    ended = sweep.start("talk", mains=mains, count=2, workers=1, start_method=method).finish_all(2)
    for run in ended.summary["runs"]:
        words = {f"said by {run['run_id']}", f"complained by {run['run_id']}"}
        (log,) = sweep.directory.glob(f"*/worker-0/wandb/run-*-{run['run_id']}/files/output.log")
        assert words <= set(log.read_text().splitlines())
        query = "SELECT text FROM lines JOIN runs ON runs.id = run_id WHERE name = ? AND stream = 2"
        console = "\n".join(text for (text,) in sweep.server_rows(query, run["run_id"]))
        assert all(word in console and sweep.printed(word) == 1 for word in words)


HERE: Final = Path(__file__).parent
STRANGER: Final = HERE / "foreign_script.py"
SNIPPET: Final = (HERE.parents[1] / "README.md").read_text().split("## Use\n\n```python\n")[1].split("```")[0]
README: Final = f"""
import multiprocessing, sys
sys.path.insert(0, {str(HERE)!r})
from mains import enter

def helper():
    return 1

def main():
    multiprocessing.get_context('spawn').Pool(1).apply(helper)
    enter(hpo=repr(hpo), argv=sys.argv[1:]).log({{"loss": 1}})

{SNIPPET}
"""
NOTEBOOK: Final = """
import sys, types
sys.modules["__main__"] = module = types.ModuleType("__main__")
exec(compile(open("stranger.py").read(), "<cell 1>", "exec"), vars(module))
"""


@pytest.mark.parametrize("way", ["file", "module", "notebook"])
def test_a_scripts_definitions_are_available_in_its_workers(sweep: RealSweep, way: str) -> None:
    sweep.configure(workers=1, count=1)
    shutil.copy(STRANGER, sweep.folder / "stranger.py")
    (sweep.folder / "package").mkdir()
    shutil.copy(STRANGER, sweep.folder / "package" / "script.py")
    sweep.env["METHODS"] = {"file": "spawn", "module": "forkserver"}.get(way, "")
    words = {"file": ("stranger.py",), "module": ("-m", "package.script"), "notebook": ("-c", NOTEBOOK)}[way]
    ended = sweep.python(*words, "--lr", "0.25").finish()
    assert (ended.code, ended.summary["best"]["value"]) == (0, 0.25), ended.stderr


def test_the_readmes_snippet_works_as_a_target_and_as_a_script_without_a_guard(sweep: RealSweep) -> None:
    config = sweep.configure(workers=1, count=1)
    (sweep.folder / "train.py").write_text(README)
    target = sweep.run("run", config, "train:main", "--", "--fast").finish()
    assert (target.code, target.summary["finished"]) == (0, 1), target.stderr
    assert [entry.facts["argv"] for entry in sweep.entries()] == [["--fast"]]
    script = sweep.python("train.py").finish()
    assert (script.code, len(sweep.entries())) == (0, 2), script.stderr
    assert {entry.facts["hpo"] for entry in sweep.entries()} == {"None"}


LEAVING: Final = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from mains import sleeper
from parallel_hpo import HPO

hpo = HPO.from_dict({{"workers": 2, "sweep_configuration": {RANDOM!r}, "directory": "sweeps"}})
handle = hpo.start(sleeper)
while len(handle.runs) < 2:
    time.sleep(0.02)
sys.exit(3)
"""


def test_a_script_that_exits_stops_its_sweep_gracefully(sweep: RealSweep) -> None:
    (sweep.folder / "script.py").write_text(LEAVING)
    ended = sweep.python("script.py").finish()
    assert (ended.code, outcomes(ended.summary)) == (3, ["stopped"] * 2), ended.stderr
    assert ended.summary["stop_reason"] == "interrupt asked by the program"


USERS_KEY: Final = "REAL" * 10
MASTER_KEY: Final = re.compile(r"\b[0-9a-f]{40}\b")
"""The form of the embedded server's own key, which no worker gets."""
DELETED_FOLDER: Final = ("bash", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "bash")


def test_a_sweep_works_in_odd_folders_with_a_closed_stderr_and_an_offline_client(sweep: RealSweep) -> None:
    sweep.env["WANDB_MODE"] = "disabled"
    (sweep.folder / "wandb").mkdir()
    (sweep.folder / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    sweep.directory = sweep.folder / "a#b?c%d e" / "ü日本"
    sweep.launcher = ("bash", "-c", 'exec "$@" 2>&-', "bash")
    ended = sweep.start("quick", count=2, workers=1).finish()
    assert (ended.code, outcomes(json.loads(ended.stdout))) == (0, ["finished"] * 2)
    assert ended.summary["best"]["value"] is not None


def test_a_deleted_working_directory_fails_with_code_2_and_one_line(sweep: RealSweep) -> None:
    sweep.launcher = DELETED_FOLDER
    ended = sweep.start("quick", count=1).finish()
    assert (ended.code, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "the working directory" in ended.stderr and "deleted" in ended.stderr
    assert not sweep.directory.exists()


def test_an_unimportable_target_fails_with_file_and_line_before_a_sweep_is_created(sweep: RealSweep) -> None:
    broken = sweep.folder / "broken.py"
    broken.write_text("import json\nimport no_such_module\n")
    ended = sweep.start("main", mains=broken, count=1).finish()
    assert (ended.code, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert f"No module named 'no_such_module' ({broken}, line 2)" in ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db"))


def watched(sweep: RealSweep) -> tuple[Ended, list[str]]:
    """Wait for the end of a sweep; return that, with its output and the arguments of all its processes."""
    seen: set[str] = set()
    assert sweep.process is not None
    sweep.wait_for(1)
    while sweep.process.poll() is None:
        try:
            seen.update(command_line(process) for process in sweep.tree())
        except psutil.NoSuchProcess:
            continue
        with suppress(subprocess.TimeoutExpired):
            sweep.process.wait(0.1)
    ended = sweep.finish()
    return ended, [ended.stdout, ended.stderr, *seen]


def files_with(folder: Path, *secrets: str) -> list[Path]:
    """Return the files in the folder that hold one of the secrets, as it is or in base64."""
    wanted = [secret.encode() for secret in secrets]
    wanted += [base64.b64encode(b"api:" + secret) for secret in wanted]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in wanted)]


def test_on_a_server_that_runs_by_itself_a_crashed_run_is_so_at_once_and_its_key_is_written_nowhere(
    sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """By W&B's protocol alone the server would notice only after minutes of silence."""
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    key = standalone["WANDB_API_KEY"]
    ended, said = watched(sweep.start("exiting", count=1, retries=0, arguments=("-v",)))
    assert (ended.code, outcomes(ended.summary)) == (5, ["crashed"]), ended.stderr
    assert "backend wandb: a parallel_hpo server" in ended.stderr
    database = sweep.folder / "server" / "server.db"
    assert rows(database, "SELECT state FROM runs") == [("crashed",)]
    assert rows(database, "SELECT state FROM sweeps") == [("FINISHED",)]
    assert not (sweep.directory / "server.db").exists()
    assert key not in "".join(said)
    own = sweep.folder / "server" / "server.key"
    assert (files_with(sweep.folder, key), own.stat().st_mode & 0o077) == ([own], 0)


def test_neither_the_embedded_servers_keys_nor_the_users_are_written_anywhere(sweep: RealSweep) -> None:
    sweep.env |= {"USERS_KEY": USERS_KEY, "WANDB_API_KEY": USERS_KEY}
    ended, said = watched(sweep.start("with_a_login", count=3, arguments=("-v",)))
    assert outcomes(ended.summary) == ["finished"] * 3, ended.stderr
    keys = {entry.facts["key"] for entry in sweep.entries()} | {USERS_KEY}
    assert not [key for key in keys if key in "".join(said)]
    assert files_with(sweep.directory, *keys) == []
    logs = [*sweep.directory.glob("server.log"), *sweep.directory.glob("*/worker-*/output.log")]
    assert not [text for text in (*said, *(path.read_text() for path in logs)) if MASTER_KEY.search(text)]
    private = [*sweep.directory.glob("server.db*"), *sweep.directory.glob("*/ledger.*")]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
    assert not Path(sweep.env["NETRC"]).exists()

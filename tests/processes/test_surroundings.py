"""Folders, terminals and environments that are unusual, and secrets that must stay secret."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Final

import psutil

from tests.processes.conftest import Ended, RealSweep, command_line, outcomes

USERS_KEY: Final = "REAL" * 10
MASTER_KEY: Final = re.compile(r"\b[0-9a-f]{40}\b")
"""The form of the embedded server's own key, which no worker gets."""
DELETED_FOLDER: Final = ("bash", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "bash")


def test_odd_folders_a_closed_stderr_and_a_client_that_is_to_be_offline_are_no_trouble(
    sweep: RealSweep,
) -> None:
    sweep.env["WANDB_MODE"] = "disabled"
    (sweep.folder / "wandb").mkdir()
    (sweep.folder / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    sweep.directory = sweep.folder / "a#b?c%d e" / "ü日本"
    sweep.launcher = ("bash", "-c", 'exec "$@" 2>&-', "bash")
    ended = sweep.start("quick", count=2, workers=1).finish()
    assert (ended.code, outcomes(json.loads(ended.stdout))) == (0, ["finished"] * 2)
    assert ended.summary["best"]["value"] is not None


def test_a_deleted_working_directory_is_one_line(sweep: RealSweep) -> None:
    sweep.launcher = DELETED_FOLDER
    ended = sweep.start("quick", count=1).finish()
    assert (ended.code, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "the working directory" in ended.stderr and "deleted" in ended.stderr
    assert not sweep.directory.exists()


def test_a_target_that_cannot_be_imported_names_file_and_line_before_there_is_a_sweep(
    sweep: RealSweep,
) -> None:
    broken = sweep.folder / "broken.py"
    broken.write_text("import json\nimport no_such_module\n")
    ended = sweep.start("main", mains=broken, count=1).finish()
    assert (ended.code, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert f"No module named 'no_such_module' ({broken}, line 2)" in ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db"))


def watched(sweep: RealSweep) -> tuple[Ended, set[str]]:
    """Wait for the end of a sweep; return that, and the arguments of all of its processes until then."""
    seen: set[str] = set()
    assert sweep.process is not None
    sweep.wait_for(1)
    while sweep.process.poll() is None:
        try:
            seen.update(command_line(process) for process in sweep.tree())
        except psutil.NoSuchProcess:
            continue
        psutil.wait_procs([psutil.Process(sweep.process.pid)], timeout=0.1)
    return sweep.finish(), seen


def files_with(folder: Path, *secrets: str) -> list[Path]:
    """Return the files in the folder that hold one of the secrets, as it is or in base64."""
    wanted = [secret.encode() for secret in secrets]
    wanted += [base64.b64encode(b"api:" + secret) for secret in wanted]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in wanted)]


def expect_unsaid(ended: Ended, arguments: set[str], *secrets: str) -> None:
    assert set(outcomes(ended.summary)) == {"finished"}, ended.stderr
    said = [ended.stdout, ended.stderr, *arguments]
    assert not [secret for secret in secrets if any(secret in words for words in said)]


def test_a_users_key_for_a_wandb_server_is_written_nowhere(
    sweep: RealSweep, standalone: dict[str, str]
) -> None:
    sweep.env |= standalone | {"PARALLEL_HPO_BACKEND": "wandb"}
    key = standalone["WANDB_API_KEY"]
    ended, arguments = watched(sweep.start("brief", count=3, arguments=("-v",)))
    expect_unsaid(ended, arguments, key)
    own = sweep.folder / "server" / "server.key"
    assert (files_with(sweep.folder, key), own.stat().st_mode & 0o077) == ([own], 0)


def test_neither_the_embedded_servers_keys_nor_the_users_are_written_anywhere(sweep: RealSweep) -> None:
    sweep.env |= {"USERS_KEY": USERS_KEY, "WANDB_API_KEY": USERS_KEY}
    ended, arguments = watched(sweep.start("with_a_login", count=3, arguments=("-v",)))
    keys = {entry.facts["key"] for entry in sweep.entries()}
    expect_unsaid(ended, arguments, *keys, USERS_KEY)
    assert files_with(sweep.directory, *keys, USERS_KEY) == []
    logs = [*sweep.directory.glob("server.log"), *sweep.directory.glob("*/worker-*/output.log")]
    told = [ended.stdout, ended.stderr, *arguments, *(path.read_text() for path in logs)]
    assert not [text for text in told if MASTER_KEY.search(text)]
    private = [*sweep.directory.glob("server.db*"), *sweep.directory.glob("*/ledger.*")]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
    assert not Path(sweep.env["NETRC"]).exists()

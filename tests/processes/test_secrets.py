"""No key is where others may read it: every file, every line, and every process's arguments are searched."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

import psutil

from tests.commanding import CommandLine
from tests.contract.serving import serving
from tests.processes.conftest import Ended, RealSweep, outcomes

FIERY: Final = Path(__file__).with_name("fiery.py")
USERS_KEY: Final = "REAL" * 10
MASTER_KEY: Final = re.compile(r"\b[0-9a-f]{40}\b")
"""What the embedded server's own key looks like, which no worker is given."""


def readers_of(path: Path) -> int:
    """Return the permissions that others than the owner have on a file or folder."""
    return path.stat().st_mode & 0o077


def watch_arguments(sweep: RealSweep) -> set[str]:
    """Return the arguments of all processes of the sweep while it runs, its first run included."""
    seen: set[str] = set()
    sweep.wait_for(1)
    while sweep.process is not None and sweep.process.poll() is None:
        try:
            seen.update(" ".join(process.cmdline()) for process in sweep.tree())
        except psutil.NoSuchProcess:
            continue
        psutil.wait_procs([psutil.Process(sweep.process.pid)], timeout=0.1)
    return seen


def files_with(folder: Path, *secrets: str) -> list[Path]:
    """Return the files in the folder that hold one of the secrets, as it stands or in base64."""
    wanted = [secret.encode() for secret in secrets]
    wanted += [base64.b64encode(b"api:" + secret) for secret in wanted]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in wanted)]


def expect_unsaid(ended: Ended, arguments: set[str], *secrets: str) -> None:
    for secret in secrets:
        assert secret not in ended.stdout
        assert secret not in ended.stderr
        assert not [words for words in arguments if secret in words]


def test_a_users_key_for_a_w_and_b_server_is_written_nowhere(
    sweep: RealSweep, clean_env: dict[str, str], tmp_path: Path, commands: CommandLine
) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    with serving(folder, clean_env, commands=commands) as server:
        key = server.said["api_key"]
        sweep.env |= server.client_env | {"PARALLEL_HPO_BACKEND": "wandb"}
        sweep.start("brief", count=3, arguments=("-v",))
        arguments = watch_arguments(sweep)
        ended = sweep.finish()
        assert outcomes(ended.summary) == ["finished"] * 3, ended.stderr
    expect_unsaid(ended, arguments, key)
    assert files_with(tmp_path, key) == [folder / "server.key"]
    assert readers_of(folder / "server.key") == 0


def test_the_embedded_servers_keys_are_written_nowhere_and_its_files_are_the_users_alone(
    sweep: RealSweep,
) -> None:
    sweep.is_first = True
    sweep.start("curious", count=3, arguments=("-v",))
    arguments = watch_arguments(sweep)
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 3, ended.stderr
    keys = {entry.facts["environment"]["WANDB_API_KEY"] for entry in sweep.entries()}
    assert len(keys) == 2
    expect_unsaid(ended, arguments, *keys)
    assert files_with(sweep.directory, *keys) == []
    told = [ended.stdout, ended.stderr, *arguments]
    told += [
        path.read_text()
        for name in ("server.log", "*/worker-*/output.log", "*/summary.json")
        for path in sweep.directory.glob(name)
    ]
    assert not [text for text in told if MASTER_KEY.search(text)]
    private = [*sweep.directory.glob("server.db*"), *sweep.directory.glob("*/ledger.*")]
    assert private
    assert [path for path in private if readers_of(path)] == []


def test_a_key_that_user_code_logs_in_with_neither_reaches_the_embedded_server_nor_any_file(
    sweep: RealSweep, tmp_path: Path
) -> None:
    sweep.env |= {"USERS_KEY": USERS_KEY, "WANDB_API_KEY": USERS_KEY}
    sweep.start("with_a_login", mains=FIERY, count=3, arguments=("-v",))
    arguments = watch_arguments(sweep)
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 3, ended.stderr
    expect_unsaid(ended, arguments, USERS_KEY)
    assert files_with(tmp_path, USERS_KEY) == []
    assert not Path(sweep.env["NETRC"]).exists()

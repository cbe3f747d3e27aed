"""The environment of the fork server and of each worker, and the limits of open files."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.pool_messages import OF_A_NODE
from parallel_hpo.core.types import Slot, SweepId

LEAKED: Final = (
    "WANDB_RUN_ID",
    "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
    "WANDB_SERVICE",
    "WANDB_RESUME",
    "WANDB_AGENT_DISABLE_FLAPPING",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "MASTER_PORT",
    "PARALLEL_HPO_SEED",
    *OF_A_NODE,
)
"""Variables not passed on: of a parent's own W&B run, distributed job or membership in a pool, and the
sweep's seed, as each run's own has that name. With WANDB_AGENT_DISABLE_FLAPPING=true, wandb's function agent
ends after its first failed run."""

THREAD_CAPS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Libraries read these once, when they are loaded, so the fork server needs them already."""

CLIENT_TIMEOUTS: Final = {"WANDB_INIT_TIMEOUT": "86400"}
"""In seconds; stock 90. If a server is unreachable for minutes, `wandb.init()` waits, and the run does not
fail."""

CLIENT_HIDDEN: Final = ("WANDB_IDENTITY_TOKEN_FILE",)
"""Variables that would lead a worker's client to another server."""

SECRET: Final = re.compile(
    "KEY|TOKEN|SECRET|PASS|AUTH(?!OR(?!I))|CRED|DSN|COOKIE|WEBHOOK|SIGNATURE|PRIVATE|CONN(ECTION)?_?STR"
    "|(?<=.)(?<!^OLD)PWD",
    re.IGNORECASE,
)
"""Names of variables that hold a secret; `PWD` and `OLDPWD` are working directories."""
SECRET_CHARS: Final = 8
"""Minimum length of a secret: shorter values (`1`, `none`) occur in any text."""

ON_CPU: Final = {"PARALLEL_HPO_DEVICE": "cpu"}


def base_environment(
    parent: Mapping[str, str], *, cores: int, workers: int, superseded: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the workers' common environment: the parent's without leaks, with thread caps added.

    Args:
        cores: number of logical cores; caps that the user has set stay.
        superseded: masks of devices that a worker's own mask replaces.
    """
    cap = str(max(1, cores // max(1, workers)))
    return dict.fromkeys(THREAD_CAPS, cap) | {
        name: value for name, value in parent.items() if name not in (*LEAKED, *superseded)
    }


def worker_environment(
    base: Mapping[str, str],
    client: Mapping[str, str],
    *,
    slot: Slot,
    workers: int,
    sweep_id: SweepId,
    wandb_dir: str,
    device: Mapping[str, str] = ON_CPU,
) -> dict[str, str]:
    """Return one worker's environment: the common one, its client's variables, its facts, and those of its
    devices."""
    own = {
        "WANDB_DIR": wandb_dir,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PARALLEL_HPO_SWEEP_ID": sweep_id,
        "PARALLEL_HPO_WORKER": str(slot),
        "PARALLEL_HPO_WORKERS": str(workers),
    }
    return {**CLIENT_TIMEOUTS, **base, **client, **own, **device}


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the values of variables with a secret's name."""
    named = (value for name, value in environment.items() if SECRET.search(name))
    return [value for value in named if len(value) >= SECRET_CHARS]


PER_WORKER: Final = 6
"""Descriptors per worker: pipe, output, log and process, some twice while a worker is replaced."""
SPARE: Final = 64
"""Spare descriptors for the ledger, the server's connections, and the user's process."""


def fill_standard() -> None:
    """Open the null device for closed standard streams (`2>&-`).

    Otherwise the next opened file would get the stream's number, and all that is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number


def make_room_for(workers: int) -> None:
    """Raise this process's soft limit of open files if the workers need it.

    Raises:
        ConfigError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft_limit_for(workers, already_open=count_open(), soft=soft, hard=hard)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def soft_limit_for(workers: int, *, already_open: int, soft: int, hard: int) -> int:
    """Return the soft limit that the workers need, at least the present one; raises ConfigError."""
    needed = already_open + SPARE + workers * PER_WORKER
    if soft in (resource.RLIM_INFINITY, -1) or needed <= soft:
        return soft
    if hard not in (resource.RLIM_INFINITY, -1) and needed > hard:
        raise ConfigError(
            f"{workers} workers need {needed} open files, but this process may have {hard}"
            " (ulimit -Hn); raise that limit or lower hpo.workers"
        )
    return needed


def count_open() -> int:
    """Return how many files, pipes and sockets this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())

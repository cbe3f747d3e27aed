"""A private Slurm for tests, each of whose hosts is this machine.

Its programs are those of the distribution (Debian: `slurm-wlm`); it needs neither root nor munge.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

DEADLINE_S: Final = 60.0
"""Timeout in seconds that only a hang reaches, even on a busy machine."""
CORES: Final = 8
"""Declared cores of a host, enough to run all tasks of a test at once."""
PACKAGES: Final = "slurm-client slurmctld slurmd"

CONFIGURATION: Final = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
KillWait=5
SlurmdParameters=config_overrides
PartitionName=all Nodes=ALL Default=YES
"""
HOST: Final = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores}"


class Slurm:
    """A running Slurm; `variables` direct its commands to it."""

    def __init__(self, folder: Path, env: Mapping[str, str], hosts: Sequence[str]) -> None:
        self.hosts = hosts
        self._configuration = folder / "slurm.conf"
        self._env = {**env, "PATH": _path(env)}
        self.variables = {"SLURM_CONF": str(self._configuration)}

    def call(self, *command: str, **variables: str) -> str:
        """Return what one of Slurm's commands prints; keywords are environment variables."""
        env = self._env | self.variables | variables
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the state of each pending or running job or array task."""
        return self._states("--states=PENDING,RUNNING,COMPLETING")

    def wait_for_all(self) -> set[str]:
        """Wait until all jobs have ended; return their final states."""
        deadline = time.monotonic() + DEADLINE_S
        while jobs := self.jobs():
            assert time.monotonic() < deadline, f"still there: {jobs}"
            time.sleep(0.1)
        return set(self._states("--states=all").values())

    def _states(self, which: str) -> dict[str, str]:
        lines = self.call("squeue", "--noheader", "--array", "--format=%i %T", which).splitlines()
        return dict(line.split() for line in lines)

    def configure(self, folder: Path, spool: str) -> None:
        """Write its configuration, with free ports; `spool` must be short: there are sockets in it."""
        (folder / "state").mkdir()
        user = psutil.Process().username()
        facts = {"host": _host(), "user": user, "spool": spool, "controller_port": free_port()}
        hosts = [HOST.format(name=name, host=_host(), port=free_port(), cores=CORES) for name in self.hosts]
        self._configuration.write_text("\n".join([CONFIGURATION.format(**facts, folder=folder), *hosts, ""]))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start one of its daemons, in the foreground."""
        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._env | self.variables, stdin=null, stdout=null, stderr=null)

    def is_idle(self) -> bool:
        """Return whether all hosts are idle."""
        words = ["sinfo", "--noheader", "--format=%T %D"]
        done = subprocess.run(words, env=self._env | self.variables, capture_output=True, text=True)
        return done.stdout.strip() == f"idle {len(self.hosts)}"


class NoSlurmError(Exception):
    """Reason why no Slurm can run here."""


@contextmanager
def running_slurm(
    folder: Path, env: Mapping[str, str], hosts: Sequence[str] = ("machine",)
) -> Iterator[Slurm]:
    """Run a private Slurm in `folder`; raise NoSlurmError if it can't run."""
    programs = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol")
    missing = [name for name in programs if shutil.which(name, path=_path(env)) is None]
    if missing:
        raise NoSlurmError(f"Slurm is not installed: no {missing[0]} (Debian: apt-get install {PACKAGES})")
    slurm = Slurm(folder, env, hosts)
    with TemporaryDirectory(prefix="s-") as spool:
        slurm.configure(folder, spool)
        with _daemons(slurm, folder):
            try:
                yield slurm
            finally:
                _end_jobs(slurm)


@contextmanager
def _daemons(slurm: Slurm, folder: Path) -> Iterator[None]:
    """Run the daemons, and wait until the hosts are idle; raise NoSlurmError if they don't start."""
    daemons = [slurm.start("slurmctld", "-i", "-D")]
    daemons += [slurm.start("slurmd", "-D", "-N", host) for host in slurm.hosts]
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not slurm.is_idle():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                raise NoSlurmError(f"Slurm does not run here: {_last_errors(folder)}")
            time.sleep(0.05)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(DEADLINE_S)


def _end_jobs(slurm: Slurm) -> None:
    """Cancel the jobs that a failed test left; their processes are soon killed."""
    slurm.call("scancel", "--quiet", "--user", psutil.Process().username())
    slurm.wait_for_all()


def _last_errors(folder: Path) -> str:
    lines = [line for log in folder.glob("*.log") for line in log.read_text().splitlines()]
    return "; ".join([line for line in lines if "fatal" in line or "error" in line][-3:])


def _path(env: Mapping[str, str]) -> str:
    """Return a search path with the folders of the daemons, which an ordinary user's path lacks."""
    return os.pathsep.join([env.get("PATH", ""), "/usr/sbin", "/sbin"])


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A private Slurm for tests, on this machine alone, which stands for each of its hosts.

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
"""Far beyond what it takes, so that only a hang reaches it, also on a machine with much else to do."""
CORES: Final = 8
"""More than there may be, so that the tasks of a test run at once."""
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
    """A Slurm that runs; `variables` lead its commands to it."""

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
        """Return the state of each job, or array's task, that waits or runs."""
        return self._states("--states=PENDING,RUNNING,COMPLETING")

    def wait_for_all(self) -> set[str]:
        """Wait until no job waits or runs; return the states that they ended in."""
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
        facts = {
            "host": _host(),
            "user": psutil.Process().username(),
            "folder": folder,
            "spool": spool,
            "controller_port": free_port(),
        }
        hosts = [HOST.format(name=name, host=_host(), port=free_port(), cores=CORES) for name in self.hosts]
        self._configuration.write_text("\n".join([CONFIGURATION.format(**facts), *hosts, ""]))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start one of its daemons, in the foreground."""
        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._env | self.variables, stdin=null, stdout=null, stderr=null)

    def is_idle(self) -> bool:
        """Whether its hosts wait for jobs."""
        words = ["sinfo", "--noheader", "--format=%T %D"]
        done = subprocess.run(words, env=self._env | self.variables, capture_output=True, text=True)
        return done.stdout.strip() == f"idle {len(self.hosts)}"


class NoSlurmError(Exception):
    """Why there is none to be had here."""


@contextmanager
def running_slurm(
    folder: Path, env: Mapping[str, str], hosts: Sequence[str] = ("machine",)
) -> Iterator[Slurm]:
    """A Slurm of one's own in `folder`; raises NoSlurmError where it can't run."""
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
    """Let them run, from when its hosts wait for jobs; raises NoSlurmError where they don't."""
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
    """End what a failed test left: all processes of a job are asked, and soon killed."""
    slurm.call("scancel", "--quiet", "--user", psutil.Process().username())
    slurm.wait_for_all()


def _last_errors(folder: Path) -> str:
    lines = [line for log in folder.glob("*.log") for line in log.read_text().splitlines()]
    return "; ".join([line for line in lines if "fatal" in line or "error" in line][-3:])


def _path(env: Mapping[str, str]) -> str:
    """The daemons are where an ordinary user's path does not lead."""
    return os.pathsep.join([env.get("PATH", ""), "/usr/sbin", "/sbin"])


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

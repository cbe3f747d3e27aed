"""Runs the rows' sweeps as a user would, and collects their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parallel_hpo.devices.library import DeviceLibrary
from parallel_hpo.devices.mask import VisibleDevice
from scripts.gpu_rows import mains

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_S: Final = 600.0
"""Timeout in seconds, long enough that only a hang exceeds it."""
FOREIGN: Final = ("WANDB_", "PARALLEL_HPO_", "GPU_CHECK_")
"""Prefixes of variables of the user's shell that would change the rows."""


@dataclass(frozen=True)
class Swept:
    """The results of a sweep."""

    code: int
    summary: Mapping[str, Any]
    """The summary; empty if there is none."""
    said: str
    """The terminal output."""
    lines: Sequence[Mapping[str, Any]]
    """The journal of its runs."""

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return int(self.summary.get("finished", 0))

    @property
    def last_words(self) -> str:
        """The exit code and the last line, for a row that failed."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return f"exit code {self.code}; {lines[-1] if lines else 'it said nothing'}"


@dataclass
class SessionSetup:
    """The usable devices, and a folder for the output."""

    folder: Path
    library: DeviceLibrary
    devices: Sequence[VisibleDevice]
    """Devices that no other process uses."""
    _number: int = field(default=0, init=False)

    @property
    def tokens(self) -> list[str]:
        """The devices' tokens, as in a mask."""
        return [device.token for device in self.devices]

    def sweep(
        self,
        main: str,
        *,
        count: int,
        part: float = 0.1,
        faulty: str = "",
        mask: str | None = None,
        **keys: Any,
    ) -> Swept:
        """Run a sweep of one of `mains`; `mask` replaces the parent's own mask."""
        config, environment = self._lay(main, count, keys)
        journal = config.with_name("journal")
        environment |= {mains.JOURNAL: str(journal), mains.PART: str(part), mains.FAULTY: faulty}
        environment |= {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
        target = f"{Path(mains.__file__)}:{main}"
        done = self.command("run", str(config), target, "--json", environment=environment)
        text = journal.read_text() if journal.exists() else ""
        summary = json.loads(done.stdout) if done.stdout.strip() else {}
        return Swept(done.returncode, summary, done.stderr, [json.loads(line) for line in text.splitlines()])

    def dry_run(self, **keys: Any) -> str:
        """Return the plan that a sweep would print."""
        config, environment = self._lay("look", 1, keys)
        target = f"{Path(mains.__file__)}:look"
        return self.command("run", str(config), target, "--dry-run", environment=environment).stderr

    def command(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of parallel-hpo to its end."""
        return subprocess.run(
            [sys.executable, "-m", "parallel_hpo", *words],
            env=self._environment() if environment is None else environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    @contextmanager
    def stranger(self, device: VisibleDevice) -> Iterator[int]:
        """Let another process use a device; yield its id."""
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.gpu_rows.stranger"],
            env=self._environment() | {"CUDA_VISIBLE_DEVICES": device.token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.communicate()

    def _lay(self, name: str, count: int, keys: Mapping[str, Any]) -> tuple[Path, dict[str, str]]:
        """Write a sweep's configuration into a folder of its own."""
        self._number += 1
        folder = self.folder / f"{self._number}-{name}"
        folder.mkdir(parents=True)
        section = {
            "count": count,
            "backend": "local",
            "project": "gpu-check",
            "directory": str(folder / "sweeps"),
            "failures": {"max_initial": None},
            "sweep_configuration": {
                "method": "random",
                "metric": {"name": "loss", "goal": "minimize"},
                "parameters": {"x": {"min": 0.0, "max": 1.0}},
            },
            **keys,
        }
        (folder / "config.json").write_text(json.dumps({"hpo": section}))
        return folder / "config.json", self._environment()

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        paths = (str(ROOT), str(self.folder), own.get("PYTHONPATH", ""))
        more = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return own | more | {"WANDB_ERROR_REPORTING": "false"}

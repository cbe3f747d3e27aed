"""Uploads by the command line, from a sweep's own server to another one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.commands import Started, start_python
from tests.contract.serving import DEADLINE_S, Server
from tests.upload.likeness import Said, number_in

PARALLEL_HPO: Final = str(Path(sys.executable).with_name("parallel-hpo"))
"""The user's script, started in a prepared process."""
MARK: Final = "uploaded by parallel_hpo from sweep"


@dataclass
class Uploads:
    """A sweep, and the destination server."""

    directory: Path
    """Folder of the sweep's own server."""
    sweep_id: str
    target: Server

    def start(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Started:
        login = {"WANDB_BASE_URL": self.target.said["url"], "WANDB_API_KEY": self.target.said["api_key"]}
        line = (PARALLEL_HPO, "upload", self.sweep_id, "--directory", str(self.directory), *words)
        return start_python(
            *line,
            folder=self.directory,
            environment=self.target.env | login | dict(env),
        )

    def call(self, *words: str, code: int = 0, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Upload, and return stdout, or stderr if another code than 0 is expected."""
        command = self.start(*words, env=env)
        stdout, stderr = command.communicate(timeout=DEADLINE_S)
        assert command.wait() == code, stderr + stdout
        return stderr if code else stdout

    def call_for_json(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Any:
        return json.loads(self.call("--json", *words, env=env))

    def here(self) -> Said:
        return Said(self.directory, self.sweep_id)

    def there(self, answer: Any) -> Said:
        return Said(self.target.folder, answer["target"].rpartition("/")[2])

    def number(self, table: str, project: str) -> int:
        """Return how many sweeps or runs the other server has in a project."""
        return number_in(self.target.folder, table, project)

"""Uploads by the command line, from a sweep's own server to another one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from parallel_hpo.core.errors import ExitCode
from tests.commands import Started, call_command, start_command
from tests.contract.serving import DEADLINE_S, Server
from tests.upload.likeness import Said, number_in

MARK: Final = "uploaded by parallel_hpo from sweep"


@dataclass
class Uploads:
    """A sweep, and the destination server."""

    directory: Path
    """Folder of the sweep's own server."""
    sweep_id: str
    target: Server

    def start(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Started:
        return start_command(*self._line, *words, folder=self.directory, environment=self._login | dict(env))

    def refused(self, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return the stderr of an upload that does not begin, called in this process."""
        done = call_command(*self._line, folder=self.directory, environment=self._login | dict(env))
        assert done.returncode == ExitCode.USAGE
        return done.stderr

    @property
    def _line(self) -> tuple[str, ...]:
        return "upload", self.sweep_id, "--directory", str(self.directory)

    @property
    def _login(self) -> dict[str, str]:
        login = {"WANDB_BASE_URL": self.target.said["url"], "WANDB_API_KEY": self.target.said["api_key"]}
        return self.target.env | login

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

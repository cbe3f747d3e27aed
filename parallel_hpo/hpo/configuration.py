"""`ConfigLoader`: a user's configuration file, of which only the `hpo` section is ours; and the kinds of HPO.

A kind is a subclass of `HPO` in a module of `parallel_hpo.hpo`, and one line of `_KINDS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

from parallel_hpo.config.hpo import SECTION, HpoSection
from parallel_hpo.config.loader import Sources, inside_worker, load_section, read_document
from parallel_hpo.hpo.base import HPO
from parallel_hpo.hpo.being_loaded import BeingLoaded
from parallel_hpo.worker.loading import LOADING

FROM_DICT: Final = "HPO.from_dict"
"""Stands in a file's place where an error says where a value comes from."""
_KINDS: Final = {"wandb_sweeps": ("parallel_hpo.hpo.wandb_sweeps", "WandbSweeps")}
"""The module and class of each kind; a module is imported when its kind is wanted."""


class ConfigLoader:
    """Reads a JSON, YAML or TOML file, by its suffix."""

    def __init__(self, path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Read the file; raises ConfigError where it can't.

        `environment` may override its section; None: this process's own.
        """
        self._path = Path(path)
        self._environment = os.environ if environment is None else environment
        self.config: dict[str, Any] = read_document(self._path)
        """The whole file, as it stands."""

    @property
    def hpo(self) -> HPO | None:
        """The HPO that the section asks for; None without one, where `apply` is false, and inside a worker.

        While a worker loads a target's file it is a stand-in: its `optimize` ends the loading there.

        Raises ConfigError for an invalid section: where the value comes from, the
        key's path, the value, and what is allowed.
        """
        if _is_being_loaded(self._environment, sys._getframe(1)):
            return BeingLoaded()
        return self._hpo

    @cached_property
    def _hpo(self) -> HPO | None:
        section = load_section(self.config, self._path, Sources(self._environment), kinds=kind_names())
        return None if section is None else make_hpo(section)

    def __getstate__(self) -> dict[str, Any]:
        """Go to a worker without this process's environment, and without an HPO."""
        return {"_path": self._path, "config": self.config}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, _environment=os.environ)


def hpo_of(section: object, *, asker: FrameType) -> HPO | None:
    """Return the HPO of a section that the code of `asker` has made itself, and no file."""
    if _is_being_loaded(os.environ, asker):
        return BeingLoaded()
    document = {SECTION: dict(section) if isinstance(section, Mapping) else section}
    checked = load_section(document, Path(FROM_DICT), Sources(os.environ), kinds=kind_names())
    return None if checked is None else make_hpo(checked)


def _is_being_loaded(environment: Mapping[str, str], asker: FrameType) -> bool:
    return inside_worker(environment) and LOADING.is_on(asker)


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing any."""
    return tuple(sorted(_KINDS))


def make_hpo(section: HpoSection) -> HPO:
    """Return the HPO of the section's kind, which is one of `kind_names()`."""
    module, name = _KINDS[section.kind]
    kind: type[HPO] = getattr(import_module(module), name)
    return kind(section)

"""The kinds of HPO by name: a kind is a module of `parallel_hpo.hpo.kinds`, named like it.

The module's `KIND` is its class. So a new kind is a new file there, and touches
no other.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.hpo import kinds as _package
from parallel_hpo.hpo.base import HPO


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing any."""
    return tuple(sorted(module.name for module in iter_modules(_package.__path__)))


def make_hpo(section: HpoSection) -> HPO:
    """Return the HPO of the section's kind, which is one of `kind_names()`."""
    kind: type[HPO] = import_module(f"{_package.__name__}.{section.kind}").KIND
    return kind(section)

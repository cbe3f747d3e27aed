"""The public Python interface: `ConfigLoader` reads a configuration, `HPO` runs its sweep."""

from __future__ import annotations

from parallel_hpo.api.handle import Handle
from parallel_hpo.api.hpo import HPO, ConfigLoader, Main, kind_names, make_hpo

__all__ = ["HPO", "ConfigLoader", "Handle", "Main", "kind_names", "make_hpo"]

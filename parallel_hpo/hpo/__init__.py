"""The public door: from a configuration file to an HPO, and from a `main` to a result."""

from __future__ import annotations

from parallel_hpo.hpo.base import HPO, Main
from parallel_hpo.hpo.configuration import ConfigLoader
from parallel_hpo.hpo.handle import Handle
from parallel_hpo.hpo.registry import kind_names, make_hpo

__all__ = ["HPO", "ConfigLoader", "Handle", "Main", "kind_names", "make_hpo"]

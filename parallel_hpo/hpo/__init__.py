"""The public door: from a configuration file to an HPO, and from a `main` to a result."""

from __future__ import annotations

from parallel_hpo.hpo.base import HPO, Main
from parallel_hpo.hpo.configuration import ConfigLoader, kind_names, make_hpo
from parallel_hpo.hpo.handle import Handle

__all__ = ["HPO", "ConfigLoader", "Handle", "Main", "kind_names", "make_hpo"]

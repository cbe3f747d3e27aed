"""Which parameters differ from run to run: the display shows these, the summary has all."""

from __future__ import annotations

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_words import Constant, Path


def varied_parameters(section: HpoSection) -> frozenset[Path] | None:
    """Return the nested names of the parameters that vary; None for a sweep that somebody else made."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return frozenset(item.path for item in sweep.parameters if not isinstance(item.distribution, Constant))

"""The section of one of a sweep's machines: the sweep's own, with what each machine may have its own way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from parallel_hpo.config.hpo import SECTION, HpoSection
from parallel_hpo.config.loader import Sources, load_section

OF_THE_MACHINE: Final = ("directory", "workers", "devices", "workers_per_device", "devices_per_worker")
"""Keys of the section that each machine may have its own way."""


def load_section_of_machine(
    section: Mapping[str, Any],
    where: Path,
    environment: Mapping[str, str],
    *,
    directory: Path | None = None,
    kinds: tuple[str, ...] = (),
) -> HpoSection | None:
    """Return what `load_section` does; of the environment only keys of the machine are heeded."""
    named = {f"PARALLEL_HPO_{key.upper()}" for key in OF_THE_MACHINE}
    sources = Sources(
        {name: value for name, value in environment.items() if name in named},
        {} if directory is None else {"directory": str(directory)},
    )
    return load_section({SECTION: dict(section)}, where, sources, kinds=kinds)

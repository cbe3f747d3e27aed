"""The whole examination, in the order of its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.doctor.client import examine_client
from parallel_hpo.doctor.devices import examine_devices, mps_runs
from parallel_hpo.doctor.findings import Finding, bad, good
from parallel_hpo.doctor.machine import (
    examine_cores,
    examine_descriptors,
    examine_places,
    examine_start_method,
)
from parallel_hpo.doctor.target import examine_target
from parallel_hpo.errors import ConfigError
from parallel_hpo.supervisor.devices.drivers import open_driver
from parallel_hpo.supervisor.devices.library import DeviceLibrary, NoDriver, OpenLibrary, opened
from parallel_hpo.supervisor.devices.placing import is_stranger
from parallel_hpo.supervisor.planning import count_cores, count_physical_cores, place_workers
from parallel_hpo.words import Program, Target


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: a section of a configuration, and what its runs would call, if that is known."""

    section: HpoSection
    main: Target | Program | None = None


def examine(
    patient: Patient, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Say how everything is that a sweep depends on; starts no sweep and no server."""
    yield from examine_client(environment, patient.section.backend)
    yield from examine_place(patient, environment, open_library=open_library)


def examine_place(
    patient: Patient, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Say how everything is that workers depend on, whatever their server is."""
    section = patient.section
    with opened(open_library) as library:
        yield from examine_devices(environment, library, is_stranger=is_stranger, mps_runs=mps_runs())
        workers, placement = _place(section, environment, library)
    yield placement
    yield examine_cores(count_cores(), count_physical_cores())
    yield examine_start_method(section.start_method)
    yield examine_descriptors(workers)
    yield from examine_places(section.directory)
    if patient.main is not None:
        yield from examine_target(section, patient.main, environment)


def _place(
    section: HpoSection, environment: Mapping[str, str], library: DeviceLibrary | NoDriver
) -> tuple[int, Finding]:
    try:
        placement = place_workers(section, environment, library)
    except ConfigError as error:
        return 1, bad("workers", str(error), "correct that key")
    devices = ", ".join(grant.name for grant in placement.grants) or "the processor"
    return placement.workers, good("workers", f"{placement.workers} on {devices}")

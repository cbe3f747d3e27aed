"""`parallel-hpo doctor --machines`: the engine of the section, opened to ask its machines, and left again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from parallel_hpo.config.tables import Machines
from parallel_hpo.doctor import Patient
from parallel_hpo.doctor.findings import bad
from parallel_hpo.doctor.machines import MachineFindings, examine_machines
from parallel_hpo.doctor.meeting import meeting_places
from parallel_hpo.doctor.questions import MachineQuestion
from parallel_hpo.errors import ParallelHPOError
from parallel_hpo.head.offer import section_of_nodes
from parallel_hpo.head.stage import host_by_route
from parallel_hpo.machines.base import ClusterEngine
from parallel_hpo.machines.choose import chosen_engine
from parallel_hpo.machines.hosted import HostedEngine
from parallel_hpo.supervisor.membership.telling import versions_here
from parallel_hpo.supervisor.packing.parcel import to_text

HERE = "(all)"
"""What is found of no machine alone stands under this."""


def _open(machines: Machines | None) -> ClusterEngine | None:
    choice = chosen_engine(machines)
    return None if choice is None else HostedEngine(choice)


def look_on_machines(
    patient: Patient,
    environment: Mapping[str, str],
    *,
    open_engine: Callable[[Machines | None], ClusterEngine | None] = _open,
) -> Iterator[MachineFindings]:
    """Yield what is found on each machine of the section's engine."""
    try:
        engine = open_engine(patient.section.machines)
    except ParallelHPOError as error:
        yield _of_none(str(error), "see what it says; no machine can be asked")
        return
    if engine is None:
        how = "name one in hpo.machines; on machines that join by themselves call `parallel-hpo doctor` there"
        yield _of_none("no engine is named that could find machines", how)
        return
    try:
        yield from _ask(engine, patient, environment)
    finally:
        engine.stop()
        engine.close()


def _ask(
    engine: ClusterEngine, patient: Patient, environment: Mapping[str, str]
) -> Iterator[MachineFindings]:
    section = patient.section
    count = (section.machines or Machines()).count
    host = engine.own_address() or host_by_route()
    try:
        with meeting_places(section.backend, environment, host) as servers:
            question = MachineQuestion(
                name="",
                versions=versions_here(),
                servers=servers,
                section=section_of_nodes(section),
                main="" if patient.main is None else to_text(patient.main),
            )
            yield from examine_machines(engine, question, most=None if count == "auto" else count)
    except ParallelHPOError as error:
        yield _of_none(str(error), "see what it says; machines would be asked for nothing")
    except OSError as error:
        yield _of_none(f"nothing can listen on {host}: {error}", "see which addresses this machine has")


def _of_none(text: str, advice: str) -> MachineFindings:
    return MachineFindings(HERE, (bad("machines", text, advice),))

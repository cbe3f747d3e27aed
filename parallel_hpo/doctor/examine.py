"""The whole examination in the order of its report: of this machine, or of a cluster's through its engine.

examine_machines ─▶ engine.start(machine, python -m parallel_hpo.doctor) … engine.ended() ─▶ findings
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from parallel_hpo.cluster.base import ClusterEngine, NodeCommand, NodeTaskEnd
from parallel_hpo.config.loader import load_section_of_machine
from parallel_hpo.config.section import HpoSection, StartMethod
from parallel_hpo.core.child_spec import ChildSetup, PickledMain
from parallel_hpo.core.errors import ConfigError, ParallelHPOError, TargetError
from parallel_hpo.core.pool_messages import Versions, version_problem
from parallel_hpo.core.types import Program, Target
from parallel_hpo.devices.cores import count_cores, count_physical_cores
from parallel_hpo.devices.library import DeviceLibrary, NoDriver, OpenLibrary, opened
from parallel_hpo.devices.placing import is_foreign, open_driver
from parallel_hpo.doctor.client import examine_client, examine_reach
from parallel_hpo.doctor.findings import (
    QUESTION,
    Finding,
    MachineCheck,
    bad,
    from_output,
    good,
    to_text,
    warning,
)
from parallel_hpo.doctor.machine import (
    examine_cores,
    examine_descriptors,
    examine_devices,
    examine_places,
    examine_start_method,
    mps_runs,
)
from parallel_hpo.pickling.main import pack_main
from parallel_hpo.pickling.payload import from_text, install_main
from parallel_hpo.processes.pool import ChildCalls, ChildPool
from parallel_hpo.processes.reaper import MARK, new_owner_id
from parallel_hpo.records.folders import working_folder
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.planning import place_workers
from parallel_hpo.worker.target import load_main, main_problem

TARGET_TIMEOUT_S: Final = 600.0
"""Timeout of the trial of a target, in seconds; it may import a large framework from a slow disk."""


def examine_target(
    section: HpoSection, main: Target | Program, environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Check in a child that `main` can be loaded and called in a worker, and pickled."""
    own = {**environment, MARK: new_owner_id()}
    children = ChildPool(
        environment=own,
        fresh=section.start_method is StartMethod.SPAWN,
        preload=tuple(section.preload),
        sys_path=tuple(sys.path),
    )
    children.open()
    with closing(children):
        calls = ChildCalls(children, ChildSetup(own, tuple(sys.path), working_folder()))
        try:
            children.wait_until_ready()
            unfit, unpicklable = calls.run(f"{__name__}:try_target", (main,), {}, TARGET_TIMEOUT_S)
        except ParallelHPOError as error:
            yield bad("target", str(error), "see this error; workers would fail in the same way")
            return
    if children.warning:
        yield warning("preload", children.warning, "leave that module out")
    if unfit:
        yield bad("target", unfit, "correct it: every worker would fail in the same way")
    elif unpicklable:
        yield warning("target", unpicklable, "it works by name, as here; optimize() would refuse it")
    else:
        yield good("target", f"{main} can be loaded, called and pickled")
    metric = (section.sweep_configuration or {}).get("metric", {}).get("name")
    if metric and not unfit:
        words = f"whether runs log {metric!r} is checked only when they run, with a warning for the first"
        yield good("metric", words)


def try_target(main: Target | Program) -> tuple[str | None, str | None]:
    """Return why `main` can't be called, and why it can't be pickled; None if it can. Runs in a child."""
    unfit = main_problem(main)
    if unfit or isinstance(main, Program):
        return unfit, None
    try:
        with ExitStack() as stack:
            pack_main(load_main(main), stack)
    except TargetError as error:
        return None, str(error)
    return None, None


@dataclass(frozen=True, slots=True)
class DoctorSubject:
    """The subject of an examination: a configuration's section, and its runs' `main` if known."""

    section: HpoSection
    main: Target | Program | None = None


def examine(
    subject: DoctorSubject, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Check everything that a sweep depends on, without starting a sweep or a server."""
    yield from examine_client(environment, subject.section.backend)
    yield from examine_place(subject, environment, open_library=open_library)


def examine_place(
    subject: DoctorSubject, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Check everything that workers depend on, apart from their server."""
    section = subject.section
    with opened(open_library) as library:
        yield from examine_devices(environment, library, is_foreign=is_foreign, mps_runs=mps_runs())
        workers, placement = _place(section, environment, library)
    yield placement
    yield examine_cores(count_cores(), count_physical_cores())
    yield examine_start_method(section.start_method)
    yield examine_descriptors(workers)
    yield from examine_places(section.directory)
    if subject.main is not None:
        yield from examine_target(section, subject.main, environment)


def _place(
    section: HpoSection, environment: Mapping[str, str], library: DeviceLibrary | NoDriver
) -> tuple[int, Finding]:
    try:
        placement = place_workers(section, environment, library)
    except ConfigError as error:
        return 1, bad("workers", str(error), "correct that key")
    devices = ", ".join(grant.name for grant in placement.grants) or "the processor"
    return placement.workers, good("workers", f"{placement.workers} on {devices}")


def examine_there(
    question: MachineCheck, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Check everything that a node depends on, on this machine."""
    yield _on_versions(question, versions_here())
    for server in question.servers:
        yield from examine_reach(server)
    with TemporaryDirectory(prefix="parallel_hpo-") as folder:
        yield from _examine_subject(question, environment, Path(folder), open_library)


def _examine_subject(
    question: MachineCheck, environment: Mapping[str, str], folder: Path, open_library: OpenLibrary
) -> Iterator[Finding]:
    """Examine the target and the machine; a target that came with the request is written into `folder`."""
    try:
        subject = _subject_of(question, environment, folder)
    except ConfigError as error:
        yield bad("configuration", str(error), "correct it, in the file or in this machine's environment")
    except Exception as error:  # noqa: BLE001 - whatever unpickling raises
        yield bad(
            "target", f"what runs call can't be read here: {error}", "have the coordinator's versions there"
        )
    else:
        yield from examine_place(subject, environment, open_library=open_library)


def _on_versions(question: MachineCheck, here: Versions) -> Finding:
    unlike = version_problem(question.versions, here, question.name)
    if unlike:
        return bad("versions", unlike, "install the coordinator's versions there")
    return good("versions", f"Python {here.python}, wandb {here.wandb}, parallel_hpo {here.parallel_hpo}")


def _subject_of(question: MachineCheck, environment: Mapping[str, str], folder: Path) -> DoctorSubject:
    document = {**question.section, "sweep_id": "none"}
    section = load_section_of_machine(document, Path("the coordinator's section"), environment)
    assert section is not None
    main = install_main(from_text(question.main), folder) if question.main else None
    assert not isinstance(main, PickledMain)  # the command line has names only
    return DoctorSubject(section, main)


LIMIT_S: Final = 300.0
"""Timeout of a machine's answer, in seconds: imports from a slow disk may take minutes."""
GRACE_S: Final = 2.0
LOOK_S: Final = 0.05
"""Poll interval for answers, in seconds."""


@dataclass(frozen=True, slots=True)
class MachineFindings:
    """Findings on one machine."""

    name: str
    findings: tuple[Finding, ...]


def examine_machines(
    engine: ClusterEngine,
    question: MachineCheck,
    *,
    most: int | None,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[MachineFindings]:
    """Examine up to `most` of the engine's machines, and yield the findings in the order of their answers.

    A machine without an answer within `limit_s` seconds gets a finding too. The caller stops the engine.
    """
    found = engine.machines()[:most]
    if not found:
        none = bad("machines", f"{engine.name} has none now", "start its workers first")
        yield MachineFindings(engine.name, (none,))
    for machine in found:
        engine.start(machine, _command(replace(question, name=machine.name)))
    waiting, until = {machine.name for machine in found}, clock() + limit_s
    while waiting and clock() < until:
        for end in engine.ended():
            if end.machine.name in waiting:
                waiting.remove(end.machine.name)
                yield MachineFindings(end.machine.name, _findings_of(end))
        pause(LOOK_S)
    for name in sorted(waiting):
        words = f"no answer within {limit_s:g} s: it is busy, or waits in a queue"
        yield MachineFindings(name, (bad("answer", words, "look there; a node would not start sooner"),))


def _command(question: MachineCheck) -> NodeCommand:
    variables = {QUESTION: to_text(question)}
    return NodeCommand(arguments=("-m", "parallel_hpo.doctor"), variables=variables, grace_s=GRACE_S)


def _findings_of(end: NodeTaskEnd) -> tuple[Finding, ...]:
    findings = from_output(end.error)
    if findings is not None:
        return findings
    error = end.error or f"it ended with exit code {end.exit_code}"
    advice = "install this parallel_hpo in the Python of the engine's worker there"
    return (bad("answer", f"the machine can't be examined: {error}", advice),)

"""`parallel-hpo doctor`: shows the findings; exit code 1 where one is bad.

With `--machines` the engine of the section is opened to ask its machines, and left again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from parallel_hpo.api import kind_names
from parallel_hpo.cli.arguments import find_from_here, parse_target
from parallel_hpo.cli.output import print_for_machines
from parallel_hpo.cluster.base import ClusterEngine
from parallel_hpo.cluster.choose import chosen_engine
from parallel_hpo.cluster.hosted import HostedEngine
from parallel_hpo.cluster.session import section_of_nodes
from parallel_hpo.cluster.setup import host_by_route
from parallel_hpo.config.loader import Document, Sources, load_section, read_document, with_section
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.errors import ConfigError, ExitCode, ParallelHPOError, TargetError, UsageError
from parallel_hpo.doctor import DoctorSubject, Finding, Level, examine
from parallel_hpo.doctor.client import meeting_places
from parallel_hpo.doctor.examine import MachineFindings, examine_machines
from parallel_hpo.doctor.findings import MachineCheck, bad
from parallel_hpo.pickling.payload import to_text
from parallel_hpo.session.membership import versions_here

NO_FILE: Final = Path("(no file)")
DEFAULTS: Final[Document] = {"hpo": {"sweep_id": "none"}}
"""A section in which every key that matters here is as by default, or as the environment has it."""

HERE = "(all)"
"""What is found of no machine alone stands under this."""


def perform_doctor(config: Path | None, target: str | None, *, machines: bool, as_json: bool) -> int:
    """Examine this place, a configuration and a target; print what was found and return the exit code.

    `machines`: also the machines that the configuration names.
    """
    find_from_here()
    patient, findings = _read_patient(config, target)
    there: list[MachineFindings] = []
    if not as_json:
        _show(findings)
    for finding in examine(patient, os.environ):
        findings.append(finding)
        if not as_json:
            _show([finding])
    for machine in look_on_machines(patient, os.environ) if machines else ():
        there.append(machine)
        if not as_json:
            print_for_machines(f"\nmachine {machine.name}")
            _show(machine.findings)
    ok = not any(each.level is Level.BAD for each in chain(findings, *(one.findings for one in there)))
    if as_json:
        content = {
            "ok": ok,
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "machines": [dataclasses.asdict(machine) for machine in there],
        }
        print_for_machines(json.dumps(content, indent=2))
    return ExitCode.COMPLETE if ok else ExitCode.OUR_FAULT


def _read_patient(config: Path | None, target: str | None) -> tuple[DoctorSubject, list[Finding]]:
    findings: list[Finding] = []
    try:
        section = _read_section(config)
        if config is not None:
            findings.append(Finding(Level.GOOD, "configuration", f"{config} is valid"))
    except ConfigError as error:
        findings.append(
            Finding(Level.BAD, "configuration", str(error), "correct it; what follows is without it")
        )
        section = HpoSection(sweep_id="none")
    try:
        main = None if target is None else parse_target(target, ())
    except TargetError as error:
        findings.append(Finding(Level.BAD, "target", str(error), "name it so"))
        main = None
    return DoctorSubject(section, main), findings


def _read_section(config: Path | None) -> HpoSection:
    document = DEFAULTS if config is None else with_section(read_document(config), config)
    section = load_section(document, config or NO_FILE, Sources(os.environ), kinds=kind_names())
    if section is None:
        raise UsageError("there is nothing to examine: this is a worker of a sweep, or hpo.apply is false")
    return section


def _show(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print_for_machines(f"{finding.level.upper():8} {finding.subject}: {finding.text}")
        if finding.advice:
            print_for_machines(f"{'':8} → {finding.advice}")


def _open(machines: Machines | None) -> ClusterEngine | None:
    choice = chosen_engine(machines)
    return None if choice is None else HostedEngine(choice)


def look_on_machines(
    patient: DoctorSubject,
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
    engine: ClusterEngine, patient: DoctorSubject, environment: Mapping[str, str]
) -> Iterator[MachineFindings]:
    section = patient.section
    count = (section.machines or Machines()).count
    host = engine.own_address() or host_by_route()
    try:
        with meeting_places(section.backend, environment, host) as servers:
            question = MachineCheck(
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

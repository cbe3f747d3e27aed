"""`parallel-hpo doctor`: shows the findings of all checks; exit code 1 if one is bad.

With `--machines` it also opens the section's cluster engine and checks its machines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from parallel_hpo.cli.options import add_working_directory_to_path, parse_target
from parallel_hpo.cli.output import print_for_machines
from parallel_hpo.core.errors import ConfigError, ExitCode, ParallelHPOError, TargetError, UsageError

if TYPE_CHECKING:
    from parallel_hpo.cluster.base import ClusterEngine
    from parallel_hpo.config.section import HpoSection
    from parallel_hpo.config.tables import Machines
    from parallel_hpo.doctor import DoctorSubject, Finding
    from parallel_hpo.doctor.examine import MachineFindings

NO_FILE: Final = Path("(no file)")
DEFAULTS: Final[dict[str, Any]] = {"hpo": {"sweep_id": "none"}}
"""A section with the defaults, which the environment may override."""

ALL_MACHINES: Final = "(all)"
"""Name for findings that concern no single machine."""


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A file with an hpo section (default: the defaults of its keys).")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(help="Target of the runs, as for run (default: none is checked).")
    ] = None,
    machines: Annotated[
        bool, typer.Option("--machines", help="Also check each machine of hpo.machines.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check for what would make a sweep fail here.

    The exit code is 1 if there is a problem.
    """
    from parallel_hpo.doctor import Level, examine

    add_working_directory_to_path()
    subject, findings = _read_subject(config, target)
    of_machines: list[MachineFindings] = []
    if not as_json:
        _show(findings)
    for finding in examine(subject, os.environ):
        findings.append(finding)
        if not as_json:
            _show([finding])
    for machine in check_machines(subject, os.environ) if machines else ():
        of_machines.append(machine)
        if not as_json:
            print_for_machines(f"\nmachine {machine.name}")
            _show(machine.findings)
    ok = not any(each.level is Level.BAD for each in chain(findings, *(one.findings for one in of_machines)))
    if as_json:
        content = {
            "ok": ok,
            "findings": [asdict(finding) for finding in findings],
            "machines": [asdict(machine) for machine in of_machines],
        }
        print_for_machines(json.dumps(content, indent=2))
    raise typer.Exit(ExitCode.COMPLETE if ok else ExitCode.OUR_FAULT)


def _read_subject(config: Path | None, target: str | None) -> tuple[DoctorSubject, list[Finding]]:
    from parallel_hpo.config.section import HpoSection
    from parallel_hpo.doctor import DoctorSubject, Finding, Level

    findings: list[Finding] = []
    try:
        section = _read_section(config)
        if config is not None:
            findings.append(Finding(Level.GOOD, "configuration", f"{config} is valid"))
    except ConfigError as error:
        findings.append(
            Finding(Level.BAD, "configuration", str(error), "correct it; the checks below ignore it")
        )
        section = HpoSection(sweep_id="none")
    try:
        main = None if target is None else parse_target(target, ())
    except TargetError as error:
        findings.append(Finding(Level.BAD, "target", str(error), "give it in this form"))
        main = None
    return DoctorSubject(section, main), findings


def _read_section(config: Path | None) -> HpoSection:
    from parallel_hpo.api import kind_names
    from parallel_hpo.config.loader import Sources, load_section, read_document, with_section

    document = DEFAULTS if config is None else with_section(read_document(config), config)
    section = load_section(document, config or NO_FILE, Sources(os.environ), kinds=kind_names())
    if section is None:
        raise UsageError("there is nothing to check: this is a worker of a sweep, or hpo.apply is false")
    return section


def _show(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print_for_machines(f"{finding.level.upper():8} {finding.subject}: {finding.text}")
        if finding.advice:
            print_for_machines(f"{'':8} → {finding.advice}")


def _open(machines: Machines | None) -> ClusterEngine | None:
    from parallel_hpo.cluster.hosted import HostedEngine, chosen_engine

    choice = chosen_engine(machines)
    return None if choice is None else HostedEngine(choice)


def check_machines(
    subject: DoctorSubject,
    environment: Mapping[str, str],
    *,
    open_engine: Callable[[Machines | None], ClusterEngine | None] = _open,
) -> Iterator[MachineFindings]:
    """Yield the findings on each machine of the section's engine."""
    try:
        engine = open_engine(subject.section.machines)
    except ParallelHPOError as error:
        yield _finding_of_all(str(error), "correct this; no machine was checked")
        return
    if engine is None:
        how = "name one in hpo.machines; where you run `parallel-hpo join`, run `parallel-hpo doctor` too"
        yield _finding_of_all("no engine is configured, so there are no machines to check", how)
        return
    try:
        yield from _ask(engine, subject, environment)
    finally:
        engine.stop()
        engine.close()


def _ask(
    engine: ClusterEngine, subject: DoctorSubject, environment: Mapping[str, str]
) -> Iterator[MachineFindings]:
    from parallel_hpo.cluster.session import section_of_nodes
    from parallel_hpo.cluster.setup import host_by_route
    from parallel_hpo.config.tables import Machines
    from parallel_hpo.doctor.client import servers_to_reach
    from parallel_hpo.doctor.examine import examine_machines
    from parallel_hpo.doctor.findings import MachineCheck
    from parallel_hpo.pickling.payload import to_text
    from parallel_hpo.session.membership import versions_here

    section = subject.section
    count = (section.machines or Machines()).count
    host = engine.own_address() or host_by_route()
    try:
        with servers_to_reach(section.backend, environment, host) as servers:
            question = MachineCheck(
                name="",
                versions=versions_here(),
                servers=servers,
                section=section_of_nodes(section),
                main="" if subject.main is None else to_text(subject.main),
            )
            yield from examine_machines(engine, question, most=None if count == "auto" else count)
    except ParallelHPOError as error:
        yield _finding_of_all(str(error), "correct this; without it machines can't be checked")
    except OSError as error:
        yield _finding_of_all(
            f"nothing can listen on {host}: {error}", "check which addresses this machine has"
        )


def _finding_of_all(text: str, advice: str) -> MachineFindings:
    from parallel_hpo.doctor.examine import MachineFindings
    from parallel_hpo.doctor.findings import bad

    return MachineFindings(ALL_MACHINES, (bad("machines", text, advice),))

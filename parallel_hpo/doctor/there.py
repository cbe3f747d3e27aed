"""The doctor on a machine of a cluster: what would keep a node from being started there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from parallel_hpo.config.of_machine import load_section_of_machine
from parallel_hpo.doctor.examine import Patient, examine_place
from parallel_hpo.doctor.findings import Finding, bad, good
from parallel_hpo.doctor.questions import MachineQuestion
from parallel_hpo.doctor.reach import examine_reach
from parallel_hpo.errors import ConfigError
from parallel_hpo.protocol.pool import Versions, why_unlike
from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.supervisor.devices.drivers import open_driver
from parallel_hpo.supervisor.devices.library import OpenLibrary
from parallel_hpo.supervisor.membership.telling import versions_here
from parallel_hpo.supervisor.packing.carried import lay_down
from parallel_hpo.supervisor.packing.parcel import from_text


def examine_there(
    question: MachineQuestion, environment: Mapping[str, str], *, open_library: OpenLibrary = open_driver
) -> Iterator[Finding]:
    """Say how everything is on this machine that a node depends on; joins nothing."""
    yield _on_versions(question, versions_here())
    for server in question.servers:
        yield from examine_reach(server)
    with TemporaryDirectory(prefix="parallel_hpo-") as folder:
        yield from _examine_patient(question, environment, Path(folder), open_library)


def _examine_patient(
    question: MachineQuestion, environment: Mapping[str, str], folder: Path, open_library: OpenLibrary
) -> Iterator[Finding]:
    """Examine what runs would call and where; what has travelled of that lies in `folder` meanwhile."""
    try:
        patient = _patient(question, environment, folder)
    except ConfigError as error:
        yield bad("configuration", str(error), "correct it, in the file or in this machine's environment")
    except Exception as error:  # noqa: BLE001 - whatever unpickling raises
        yield bad("target", f"what runs call can't be read here: {error}", "have the head's versions there")
    else:
        yield from examine_place(patient, environment, open_library=open_library)


def _on_versions(question: MachineQuestion, here: Versions) -> Finding:
    unlike = why_unlike(question.versions, here, question.name)
    if unlike:
        return bad("versions", unlike, "install the head's versions there")
    return good("versions", f"Python {here.python}, wandb {here.wandb}, parallel_hpo {here.parallel_hpo}")


def _patient(question: MachineQuestion, environment: Mapping[str, str], folder: Path) -> Patient:
    document = {**question.section, "sweep_id": "none"}
    section = load_section_of_machine(document, Path("the head's section"), environment)
    assert section is not None
    main = lay_down(from_text(question.main), folder) if question.main else None
    assert not isinstance(main, PickledMain)  # the command line has names only
    return Patient(section, main)

"""The doctor on the machines of a cluster: each is asked by what would start a node there.

examine_machines ─▶ engine.start(machine, python -m parallel_hpo.doctor) … engine.ended() ─▶ findings
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from parallel_hpo.doctor.findings import Finding, bad
from parallel_hpo.doctor.questions import QUESTION, MachineQuestion, from_output, to_text
from parallel_hpo.machines.base import ClusterEngine, NodeCommand, NodeTaskEnd

LIMIT_S: Final = 300.0
"""A framework from a slow disk takes its time; a job that waits for longer in a queue may wait for hours."""
GRACE_S: Final = 2.0
LOOK_S: Final = 0.05
"""Between two questions whether machines have answered."""


@dataclass(frozen=True, slots=True)
class MachineFindings:
    """What was found on a machine."""

    name: str
    findings: tuple[Finding, ...]


def examine_machines(
    engine: ClusterEngine,
    question: MachineQuestion,
    *,
    most: int | None,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[MachineFindings]:
    """Ask the engine's machines, `most` of them, and yield what each says, in the order of their answers.

    Of one that has said nothing after `limit_s` seconds that is said; whoever has the engine stops it.
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


def _command(question: MachineQuestion) -> NodeCommand:
    variables = {QUESTION: to_text(question)}
    return NodeCommand(arguments=("-m", "parallel_hpo.doctor"), variables=variables, grace_s=GRACE_S)


def _findings_of(end: NodeTaskEnd) -> tuple[Finding, ...]:
    told = from_output(end.error)
    if told is not None:
        return told
    said = end.error or f"it ended with exit code {end.exit_code}"
    advice = "have this parallel_hpo in the Python of the engine's worker there"
    return (bad("answer", f"nothing can be examined there: {said}", advice),)

"""How a node's task ended, in the one form that all engines give it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from parallel_hpo.machines.base import FoundMachine, NodeCommand, NodeTaskEnd
from parallel_hpo.machines.node_process import NodeReturn

SPARE_S: Final = 3.0
"""On top of a node's grace: for the way there, and for what is left of it to be killed."""


def time_to_end(commands: Iterable[NodeCommand]) -> float:
    """Return for how many seconds the ends of nodes are waited for that were told to end."""
    return max((command.grace_s for command in commands), default=0.0) + SPARE_S


def proven(machine: FoundMachine, node: NodeReturn) -> NodeTaskEnd:
    """Return the end of a node that is known to be gone, with all of it."""
    return NodeTaskEnd(machine, returned=True, exit_code=node.exit_code, error=node.last_words)


def hinted(machine: FoundMachine, reason: object) -> NodeTaskEnd:
    """Return the end of which only an engine speaks, or an error: the node may run on."""
    return NodeTaskEnd(machine, returned=False, error=said_by(reason))


def said_by(reason: object) -> str:
    """Return the words of an error on one line, or its kind where it has none."""
    words = " ".join(str(reason).split())
    return words or type(reason).__name__

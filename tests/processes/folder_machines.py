"""A coordinator whose machines are folders.

    python -m tests.processes.folder_machines CONFIG TARGET FOLDER [SWEEP]

Each folder in FOLDER is a machine as long as it exists, with its own directory of sweeps. Where it has a
file `broken`, a node can't be started.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.api import kind_names
from parallel_hpo.cli.options import parse_target
from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd
from parallel_hpo.cluster.node_process import NodeExit, NodeProcess, hinted, proven
from parallel_hpo.cluster.setup import run_on_cluster
from parallel_hpo.config.loader import Sources, load_section, read_document
from parallel_hpo.count.policy import Launch
from parallel_hpo.display import Terminal, Verbosity
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import in_thread

FOREIGN = ("WANDB_", "PARALLEL_HPO_")
QUIET = ("WANDB_X_", "WANDB_DISABLE_", "WANDB_ERROR_")
"""What a machine has nevertheless: clients that do without what looks at it."""
BROKEN = ("-c", "raise SystemExit('no torch on this machine')")


@dataclass
class Node:
    """A node on a machine, and how it ends."""

    machine: ClusterMachine
    process: NodeProcess
    end: Future[NodeExit]


class FolderEngine:
    """An engine whose machines are folders."""

    name = "Folders"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes: list[Node] = []

    def machines(self) -> tuple[ClusterMachine, ...]:
        return tuple(ClusterMachine(path.name, str(path)) for path in sorted(self._folder.iterdir()))

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        home = Path(machine.address)
        own = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(QUIET) or not name.startswith(FOREIGN)
        }
        arguments = BROKEN if (home / "broken").exists() else command.arguments
        command = NodeCommand(arguments=arguments, variables=command.variables, grace_s=command.grace_s)
        log = (home / "node.log").open("ab")
        with log:
            process = NodeProcess(
                command, env=own | {"PARALLEL_HPO_DIRECTORY": str(home / "sweeps")}, stderr=log
            )
        self._nodes.append(Node(machine, process, in_thread(process.wait)))

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        over = [node for node in self._nodes if node.end.done()]
        self._nodes = [node for node in self._nodes if node not in over]
        return tuple(_end_of(node) for node in over)

    def stop(self) -> None:
        for node in self._nodes:
            node.process.stop()
        for node in self._nodes:
            node.end.exception()

    def close(self) -> None:
        return

    def own_address(self) -> str | None:
        return "127.0.0.1"


def _end_of(node: Node) -> NodeTaskEnd:
    error = node.end.exception()
    return hinted(node.machine, error) if error else proven(node.machine, node.end.result())


def main() -> int:
    config, target, machines, *resume = sys.argv[1:]
    sources = Sources(os.environ, {})
    section = load_section(read_document(Path(config)), Path(config), sources, kinds=kind_names())
    assert section is not None
    assert section.machines is not None
    with closing(Control()) as control, Terminal(sys.stderr, verbosity=Verbosity.VERBOSE) as terminal:
        result = run_on_cluster(
            section,
            parse_target(target, ()),
            observer=terminal,
            control=control,
            launch=Launch(resume=resume[0] if resume else None),
            machines=section.machines,
            make_engine=lambda: FolderEngine(Path(machines)),
        )
        terminal.conclude(result)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())

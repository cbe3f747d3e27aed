"""`parallel-hpo run`: from a request to an exit code.

Of a sweep that ended early it says the command that goes on with it: the one that began it, with `--resume`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.api import kind_names, make_hpo
from parallel_hpo.api.hpo import varied_parameters
from parallel_hpo.cli.arguments import find_from_here, parse_target
from parallel_hpo.cli.late_signals import LateSignals
from parallel_hpo.cli.output import print_for_machines
from parallel_hpo.cli.plan import show_plan
from parallel_hpo.cluster.setup import create_sweep
from parallel_hpo.cluster.shares import find_share, perform_share
from parallel_hpo.config.loader import Sources, inside_worker, load_section, read_document, with_section
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Program, Target
from parallel_hpo.core.values import is_duration
from parallel_hpo.count.policy import Launch
from parallel_hpo.display import Terminal, Verbosity
from parallel_hpo.pickling.payload import names_file
from parallel_hpo.session.node import NodeTask

OF_ONE_LAUNCH: Final = ("--resume", "--sweep-id", "--name")
"""Options that say which sweep; the resumed one's id takes their place."""
DEADLINE: Final = "--deadline"


@dataclass(frozen=True, slots=True)
class DisplayFlags:
    """What the user wants to see."""

    dry_run: bool
    as_json: bool
    quiet: bool
    verbose: bool

    @property
    def verbosity(self) -> Verbosity:
        """How much goes to stderr."""
        if self.quiet:
            return Verbosity.QUIET
        return Verbosity.VERBOSE if self.verbose else Verbosity.NORMAL


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks of `run`."""

    config: Path
    target: str | None
    arguments: tuple[str, ...]
    """What stands after `--`: the target's own arguments."""
    flags: Mapping[str, str]
    """Keys of the section that are given as options, as text."""
    launch: Launch
    name: str | None
    """The name of the new sweep; None: the one in the configuration."""
    create: bool
    """Only create the sweep, and print its id."""
    display: DisplayFlags
    words: tuple[str, ...] = ()
    """The command line itself, its program first."""


def perform(request: Request) -> int:
    """Do what is asked; return the exit code. Raises the errors of `HPO.perform`."""
    section = _read_section(request)
    if request.create:
        return _create(section, request)
    if request.launch.share is not None:
        _check_share(section, request.launch)
    find_from_here()
    target = None if request.target is None else parse_target(request.target, request.arguments)
    if request.display.dry_run:
        show_plan(section, as_json=request.display.as_json)
        return 0
    return _run(section, target or _program_of(section, request), request)


def _create(section: HpoSection, request: Request) -> int:
    """Create the sweep, and print its id alone: `SWEEP=$(parallel-hpo run sweep.yaml --create)`."""
    if section.sweep_id is not None:
        raise UsageError(
            f"--create makes a new sweep, but hpo.sweep_id is {section.sweep_id!r}: leave one out"
        )
    main = _main_of(section, request)
    with Terminal(sys.stderr, verbosity=request.display.verbosity) as terminal:
        if main is not None and names_file(main) and not Path(main.file).is_file():
            terminal(Message(f"{main.file} is not here: every machine needs its own", warning=True))
        path = create_sweep(section, main, observer=terminal)
    print_for_machines(path.sweep_id)
    return 0


def _main_of(section: HpoSection, request: Request) -> Target | Program | None:
    """Return what runs call; None where nobody says so."""
    if request.target is not None:
        return parse_target(request.target, request.arguments)
    return _program_in(section)


def _check_share(section: HpoSection, launch: Launch) -> None:
    """A share is one of a count that is known, of a sweep that all launches join."""
    if section.count is None and launch.resume is None:
        raise UsageError(f"--share {launch.share} needs a count to be a share of: give --count or hpo.count")
    if section.sweep_id is None and launch.resume is None:
        raise UsageError(
            f"--share {launch.share} needs a sweep that all shares join: give --sweep-id,"
            " as printed by `parallel-hpo run CONFIG --create`"
        )


def _program_of(section: HpoSection, request: Request) -> Program:
    """Return the sweep's own program, which runs where no TARGET is given."""
    program = _program_in(section)
    if program is None:
        raise UsageError(
            "TARGET is missing: say which function a run calls, as package.module:function or"
            " file.py:function, or name a program in the sweep configuration"
        )
    if request.arguments:
        raise UsageError("what stands after -- goes to a TARGET; a sweep's program has its `command`")
    return program


def _program_in(section: HpoSection) -> Program | None:
    sweep = section.sweep_configuration or {}
    if not sweep.get("program") and not sweep.get("command"):
        return None
    return Program(str(sweep.get("program", "")), tuple(str(word) for word in sweep.get("command", ())))


def _read_section(request: Request) -> HpoSection:
    if inside_worker(os.environ):
        raise UsageError(
            "this is a worker of a sweep (PARALLEL_HPO_WORKER is set), which can't start a sweep"
        )
    document = with_section(read_document(request.config), request.config)
    sources = Sources(os.environ, request.flags)
    section = load_section(document, request.config, sources, kinds=kind_names())
    if section is None:
        raise UsageError(f"{request.config}: hpo.apply is false, so there is nothing to run; set it to true")
    return section if request.name is None else _named(section, request.name, request.launch)


def _named(section: HpoSection, name: str, launch: Launch) -> HpoSection:
    """Return the section of a new sweep of this name."""
    if launch.resume is not None or section.sweep_id is not None or section.sweep_configuration is None:
        raise UsageError("--name names a new sweep: one that is resumed or joined keeps its own name")
    if not name.strip():
        raise UsageError("--name is empty: give the sweep a name, or leave the option out")
    configuration = {**section.sweep_configuration, "name": name}
    return section.model_copy(update={"sweep_configuration": configuration})


def _find_share(section: HpoSection, launch: Launch) -> NodeTask | None:
    """Return the part that a share has in its sweep's pool; None: it is no share, or there is no pool."""
    sweep = section.sweep_id or launch.resume
    by_engine = section.machines is not None and section.machines.engine is not None
    if launch.share is None or sweep is None or by_engine:
        return None
    return find_share(section, sweep, launch.share, os.environ, name=socket.gethostname())


def _run(section: HpoSection, target: Target | Program, request: Request) -> int:
    part = _find_share(section, request.launch)
    with LateSignals() as late:
        with Terminal(
            sys.stderr, verbosity=request.display.verbosity, varied=varied_parameters(section)
        ) as terminal:
            observer = late.watching(terminal)
            if part is not None:
                result = perform_share(part, section, target, observer=observer)
            else:
                result = make_hpo(section).perform(target, observer=observer, launch=request.launch)
            over = ended_by_the_clock(section.deadline, result.stop_reason)
            terminal.conclude(
                result, go_on=go_on_command(request.words, result.sweep_id, deadline_is_over=over)
            )
        if request.display.as_json:
            print_for_machines(result.to_json())
    return result.exit_code


def ended_by_the_clock(deadline: str | None, stop_reason: str) -> bool:
    """Whether a deadline has ended the sweep that is a time of day: no later launch can keep that."""
    return deadline is not None and not is_duration(deadline) and stop_reason.startswith("deadline ")


def go_on_command(
    words: Sequence[str],
    sweep_id: str,
    *,
    deadline_is_over: bool = False,
    find: Callable[[str], str | None] = shutil.which,
    interpreter: str = sys.executable,
) -> str:
    """Return the command line that goes on with the sweep that the command line `words` began.

    `words` are those of `sys.argv`; `find` says which file a command's name is. `deadline_is_over`: the
    sweep's deadline is a time of day that the next launch can't keep.
    """
    program, *rest = words
    end = rest.index("--") if "--" in rest else len(rest)
    dropped = (*OF_ONE_LAUNCH, *([DEADLINE] if deadline_is_over else []))
    ours = _without(dropped, rest[:end])
    ours += [DEADLINE, "null"] if deadline_is_over else []
    return shlex.join([*_program(program, find, interpreter), *ours, "--resume", sweep_id, *rest[end:]])


def _without(options: Collection[str], words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_dropped = before in options or word.partition("=")[0] in options
        kept += [] if is_dropped else [word]
    return kept


def _program(program: str, find: Callable[[str], str | None], interpreter: str) -> list[str]:
    """The command as short as it can be typed: by its name, where that finds the same file."""
    if Path(program).name == "__main__.py":
        return [_shortest(interpreter, "python", find), "-m", "parallel_hpo"]
    return [_shortest(program, "parallel-hpo", find)]


def _shortest(path: str, name: str, find: Callable[[str], str | None]) -> str:
    found = find(name)
    return name if found is not None and Path(found).absolute() == Path(path).absolute() else path

"""`parallel-hpo run`: runs a sweep, creates one, or shows its plan.

After a sweep that ended early it prints the command that resumes it: the original one, with `--resume`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from parallel_hpo.cli.options import (
    BATCH,
    OUTPUT,
    SWEEP,
    add_working_directory_to_path,
    given,
    parse_share,
    parse_target,
    sweep_ids,
    verbosity_of,
)
from parallel_hpo.cli.output import LateSignals, print_for_machines, print_for_people
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import Program, Target
from parallel_hpo.core.values import is_duration
from parallel_hpo.count.policy import Launch

if TYPE_CHECKING:
    from parallel_hpo.config.section import HpoSection
    from parallel_hpo.display import Verbosity
    from parallel_hpo.server.search.engine import Engine
    from parallel_hpo.session.planning import SweepPlan

OF_ONE_LAUNCH: Final = ("--resume", "--sweep-id", "--name")
"""Options that say which sweep; `--resume` replaces them in the command that resumes it."""
DEADLINE: Final = "--deadline"
_SUGGESTIONS: Final = 3
"""Number of suggestions in a plan: enough to see that the space is the intended one."""


def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="A file with an hpo section, or a W&B sweep file.")],
    target: Annotated[
        str | None,
        typer.Argument(help="package.module:function or file.py:function (default: the sweep's program)."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Resume this sweep: perform the rest of its count.",
            rich_help_panel=SWEEP,
            metavar="SWEEP",
            autocompletion=sweep_ids,
        ),
    ] = None,
    keep_configuration: Annotated[
        bool,
        typer.Option(
            "--keep-configuration",
            help="Resume although CONFIG has another metric or goal; the sweep keeps its own.",
            rich_help_panel=SWEEP,
        ),
    ] = False,
    share: Annotated[
        str | None,
        typer.Option(
            help="Perform the I-th of N shares of the count.", metavar="I/N|slurm", rich_help_panel=BATCH
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new sweep (default: the one in CONFIG).", rich_help_panel=SWEEP),
    ] = None,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help="Create the sweep, print its id and exit; machines join it by `join`.",
            rich_help_panel=BATCH,
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and exit.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the summary (or the plan) as JSON.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", help="Show warnings and the result only.", rich_help_panel=OUTPUT),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the workers' states too.", rich_help_panel=OUTPUT),
    ] = False,
) -> None:
    """Run a sweep. Arguments after -- are the target's own.

    Most options override keys of the hpo section.
    """
    launch = Launch(resume, None if share is None else parse_share(share, os.environ), keep_configuration)
    section = _read_section(config, given(context))
    if name is not None:
        section = _with_name(section, name, launch)
    add_working_directory_to_path()
    arguments = context.obj or ()
    main = parse_target(target, arguments) if target is not None else _program_in(section)
    if create:
        _create(section, main, verbosity_of(quiet=quiet, verbose=verbose))
        return
    if launch.share is not None:
        _check_share(section, launch)
    if dry_run:
        show_plan(section, as_json=as_json)
        return
    if target is None:
        _expect_program(main, arguments)
    assert main is not None
    verbosity = verbosity_of(quiet=quiet, verbose=verbose)
    raise typer.Exit(_run_sweep(section, main, launch, verbosity, as_json=as_json))


def _create(section: HpoSection, main: Target | Program | None, verbosity: Verbosity) -> None:
    """Create the sweep, and print its id alone: `SWEEP=$(parallel-hpo run sweep.yaml --create)`."""
    from parallel_hpo.cluster.setup import create_sweep
    from parallel_hpo.core.notices import Message
    from parallel_hpo.display import Terminal
    from parallel_hpo.pickling.payload import names_file

    if section.sweep_id is not None:
        raise UsageError(
            f"--create makes a new sweep, but hpo.sweep_id is {section.sweep_id!r}: leave one out"
        )
    with Terminal(sys.stderr, verbosity=verbosity) as terminal:
        if main is not None and names_file(main) and not Path(main.file).is_file():
            terminal(Message(f"{main.file} is not here: every machine needs a copy of it", warning=True))
        path = create_sweep(section, main, observer=terminal)
    print_for_machines(path.sweep_id)


def _check_share(section: HpoSection, launch: Launch) -> None:
    """Raise UsageError unless the share's count and its sweep are known."""
    if section.count is None and launch.resume is None:
        raise UsageError(f"--share {launch.share} needs a count: give --count or hpo.count")
    if section.sweep_id is None and launch.resume is None:
        raise UsageError(
            f"--share {launch.share} needs a sweep that all shares join: give --sweep-id,"
            " as printed by `parallel-hpo run CONFIG --create`"
        )


def _expect_program(program: Target | Program | None, arguments: Sequence[str]) -> None:
    """Raise UsageError if the sweep has no program of its own, or there are arguments for a TARGET."""
    if program is None:
        raise UsageError(
            "TARGET is missing: say which function a run calls, as package.module:function or"
            " file.py:function, or name a program in the sweep configuration"
        )
    if arguments:
        raise UsageError(
            "arguments after -- belong to a TARGET: put those of the sweep's program into its `command`"
        )


def _program_in(section: HpoSection) -> Program | None:
    sweep = section.sweep_configuration or {}
    if not sweep.get("program") and not sweep.get("command"):
        return None
    return Program(str(sweep.get("program", "")), tuple(str(word) for word in sweep.get("command", ())))


def _read_section(config: Path, flags: Mapping[str, str]) -> HpoSection:
    from parallel_hpo.api import kind_names
    from parallel_hpo.config.loader import Sources, inside_worker, load_section, read_document, with_section

    if inside_worker(os.environ):
        raise UsageError(
            "this is a worker of a sweep (PARALLEL_HPO_WORKER is set), which can't start a sweep"
        )
    document = with_section(read_document(config), config)
    section = load_section(document, config, Sources(os.environ, flags), kinds=kind_names())
    if section is None:
        raise UsageError(f"{config}: hpo.apply is false, so there is nothing to run; set it to true")
    return section


def _with_name(section: HpoSection, name: str, launch: Launch) -> HpoSection:
    """Return the section with this name for its new sweep."""
    if launch.resume is not None or section.sweep_id is not None or section.sweep_configuration is None:
        raise UsageError("--name names a new sweep: one that is resumed or joined keeps its own name")
    if not name.strip():
        raise UsageError("--name is empty: give the sweep a name, or leave the option out")
    configuration = {**section.sweep_configuration, "name": name}
    return section.model_copy(update={"sweep_configuration": configuration})


def _run_sweep(
    section: HpoSection, main: Target | Program, launch: Launch, verbosity: Verbosity, *, as_json: bool
) -> int:
    from parallel_hpo.api import make_hpo
    from parallel_hpo.api.hpo import varied_parameters
    from parallel_hpo.display import Terminal

    varied = varied_parameters(section)
    with LateSignals() as late:
        with Terminal(sys.stderr, verbosity=verbosity, varied=varied) as terminal:
            observer = late.watching(terminal)
            result = make_hpo(section).perform(main, observer=observer, launch=launch)
            passed = deadline_has_passed(section.deadline, result.stop_reason)
            terminal.conclude(
                result, go_on=resume_command(sys.argv, result.sweep_id, deadline_has_passed=passed)
            )
        if as_json:
            print_for_machines(result.to_json())
    return result.exit_code


def deadline_has_passed(deadline: str | None, stop_reason: str) -> bool:
    """Return whether the sweep was ended by a deadline that is a time of day: no later launch can meet it."""
    return deadline is not None and not is_duration(deadline) and stop_reason.startswith("deadline ")


def resume_command(
    words: Sequence[str],
    sweep_id: str,
    *,
    deadline_has_passed: bool = False,
    find: Callable[[str], str | None] = shutil.which,
    interpreter: str = sys.executable,
) -> str:
    """Return the command line that resumes the sweep started by the command line `words`.

    `words` are those of `sys.argv`; `find` returns the file of a command's name. `deadline_has_passed`:
    the sweep's deadline is a time of day that the next launch can't meet.
    """
    program, *rest = words
    end = rest.index("--") if "--" in rest else len(rest)
    dropped = (*OF_ONE_LAUNCH, *([DEADLINE] if deadline_has_passed else []))
    ours = _without(dropped, rest[:end])
    ours += [DEADLINE, "null"] if deadline_has_passed else []
    return shlex.join([*_program(program, find, interpreter), *ours, "--resume", sweep_id, *rest[end:]])


def _without(options: Collection[str], words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_dropped = before in options or word.partition("=")[0] in options
        kept += [] if is_dropped else [word]
    return kept


def _program(program: str, find: Callable[[str], str | None], interpreter: str) -> list[str]:
    """Return the command as short as it can be typed: its name alone, if PATH leads to the same file."""
    if Path(program).name == "__main__.py":
        return [_shortest(interpreter, "python", find), "-m", "parallel_hpo"]
    return [_shortest(program, "parallel-hpo", find)]


def _shortest(path: str, name: str, find: Callable[[str], str | None]) -> str:
    found = find(name)
    return name if found is not None and Path(found).absolute() == Path(path).absolute() else path


def show_plan(section: HpoSection, *, as_json: bool) -> None:
    """Print the plan of a sweep, on stderr for people or on stdout as JSON, and start nothing."""
    from parallel_hpo.config.section import BackendChoice
    from parallel_hpo.session.planning import plan_sweep

    plan = plan_sweep(section, os.environ)
    engine = _make_engine(section)
    suggestions = [] if engine is None else _first_suggestions(engine, plan.count)
    if as_json:
        content = {**asdict(plan), "suggestions": suggestions}
        print_for_machines(json.dumps(content, indent=2, default=str))
        return
    lines = [*_plan_lines(section, plan)]
    if suggestions:
        seeded = section.seed is not None and plan.backend == BackendChoice.LOCAL
        exact = engine is not None and (engine.size is not None or seeded)
        lines.append(
            "first suggestions:" if exact else "suggestions, for example (each sweep draws its own):"
        )
    print_for_people("\n".join([*lines, *(f"  {json.dumps(parameters)}" for parameters in suggestions)]))


def _make_engine(section: HpoSection) -> Engine | None:
    """Return an engine like the embedded server's; None for a sweep that already exists."""
    from parallel_hpo.config.sweep import parse_sweep_configuration
    from parallel_hpo.server.search.engine import make_engine

    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return make_engine(sweep, seed=section.seed or 0)


def _first_suggestions(engine: Engine, count: int | None) -> list[dict[str, Any]]:
    """Return the parameters that the embedded server might suggest first."""
    asked = (engine.ask(index) for index in range(min(count or _SUGGESTIONS, _SUGGESTIONS)))
    return [parameters for parameters in asked if parameters is not None]


def _plan_lines(section: HpoSection, plan: SweepPlan) -> Iterator[str]:
    yield f"backend: {plan.backend} ({plan.reason})"
    yield f"runs: {plan.count or 'no limit'}"
    if section.deadline is not None:
        yield f"deadline: {section.deadline}"
    shares = f", shares {', '.join(map(str, plan.shares))}" if plan.shares else ""
    devices = f"devices {' / '.join(plan.devices)}" if plan.devices else "cpu"
    yield f"workers: {plan.workers} on {devices}{shares}"
    yield from (f"warning: {note.text}" for note in plan.notes)
    yield f"folder: {plan.folder}"
    yield "environment of a worker:"
    for name, value in sorted(plan.environment.items()):
        yield f"  {name}={value}"

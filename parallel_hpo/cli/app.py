"""The commands, their arguments and options; those in `joining`, `results` and `housekeeping` too."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from parallel_hpo.cli.housekeeping import clean, server, upload
from parallel_hpo.cli.joining import join
from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of, parse_slot, run_ids, sweep_ids
from parallel_hpo.cli.output import errors_as_exit_codes, print_for_machines
from parallel_hpo.cli.results import compare, export, report
from parallel_hpo.cli.section_options import BATCH, OUTPUT, SWEEP, RunCommand, given
from parallel_hpo.core.version import __version__
from parallel_hpo.count.policy import MOST_WORKERS

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # an error is a line or two, not a box
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_for_machines(f"parallel-hpo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Run Weights & Biases sweeps on every core and device of this machine."""
    if context.obj and context.invoked_subcommand not in ("run", "join"):
        raise typer.BadParameter(f"{context.invoked_subcommand} takes nothing after --")


@app.command(cls=RunCommand)
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
            help="Resume this sweep: perform what is left of its count.",
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
    from parallel_hpo.cli.arguments import parse_share
    from parallel_hpo.cli.run import DisplayFlags, Request, perform
    from parallel_hpo.count.policy import Launch

    display = DisplayFlags(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    with errors_as_exit_codes():
        launch = Launch(resume, None if share is None else parse_share(share, os.environ), keep_configuration)
        words = tuple(sys.argv)
        request = Request(
            config=config,
            target=target,
            arguments=context.obj or (),
            flags=given(context),
            launch=launch,
            name=name,
            create=create,
            display=display,
            words=words,
        )
        raise typer.Exit(perform(request))


app.command()(join)
app.command()(server)


@app.command("open")
def open_page(
    sweep: Annotated[str | None, typer.Argument(help="Missing: the newest one.", metavar="[SWEEP]")] = None,
    directory: Directory = None,
) -> None:
    """Print the address of a sweep's page, and open it in a browser; where no server runs, serve it."""
    from parallel_hpo.cli.opening import perform_open

    with errors_as_exit_codes():
        perform_open(directory_of(directory), sweep)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="A file with an hpo section.")] = None,
    target: Annotated[str | None, typer.Argument(help="What its runs would call, as for run.")] = None,
    machines: Annotated[
        bool, typer.Option("--machines", help="Look on each machine of hpo.machines, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what would make a sweep fail here; exit code 1 where something is bad."""
    from parallel_hpo.cli.doctor import perform_doctor

    with errors_as_exit_codes():
        raise typer.Exit(perform_doctor(config, target, machines=machines, as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the hpo section."""
    from parallel_hpo.config.section import section_schema

    with errors_as_exit_codes():
        print_for_machines(json.dumps(section_schema(), indent=2))


@app.command()
def status(
    sweep: Annotated[
        str | None,
        typer.Argument(help="Missing: all sweeps.", metavar="[SWEEP]", autocompletion=sweep_ids),
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Say how far a sweep is, or all of them."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.status(directory_of(directory), sweep, as_json=as_json)


@app.command()
def runs(
    sweep: Sweep,
    sort: Annotated[
        str | None, typer.Option(help="In the order of this column, as --csv names it.", metavar="COLUMN")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a column for each parameter.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """List a sweep's runs."""
    from parallel_hpo.cli import verbs

    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json: choose one")
    with errors_as_exit_codes():
        verbs.runs(directory_of(directory), sweep, sort=sort, csv=as_csv, as_json=as_json)


@app.command()
def best(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Show a sweep's best run so far."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.best(directory_of(directory), sweep, as_json=as_json)


@app.command()
def logs(
    sweep: Sweep,
    worker: Annotated[
        int | None, typer.Argument(help="Its slot, as 0 or w0; missing: all.", parser=parse_slot)
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the sweep ends.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Print what the workers of a sweep printed."""
    from parallel_hpo.cli.logs import logs

    with errors_as_exit_codes():
        logs(directory_of(directory), sweep, worker, follow=follow, as_json=as_json)


@app.command()
def rerun(
    sweep: Sweep,
    run: Annotated[
        str, typer.Argument(help="A run's id, or best.", metavar="RUN|best", autocompletion=run_ids)
    ],
    debug: Annotated[
        bool, typer.Option("--pdb", help="Open a debugger where it raises an exception.")
    ] = False,
    directory: Directory = None,
) -> None:
    """Run one run again, here and now: as a run of its own, with the same parameters and its exit code."""
    from parallel_hpo.cli.rerun import rerun

    with errors_as_exit_codes():
        raise typer.Exit(rerun(directory_of(directory), sweep, run, debug=debug))


for command in (compare, export, report):
    app.command()(command)


def _set_state(verb: str, sweep: str, directory: Path | None, as_json: bool) -> None:
    from parallel_hpo.cli import steering

    with errors_as_exit_codes():
        steering.set_state(directory_of(directory), sweep, verb, as_json=as_json)


@app.command()
def pause(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Pause a sweep: no new runs for now."""
    _set_state("pause", sweep, directory, as_json)


@app.command()
def resume(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Let a paused sweep go on (to go on with one that ended early: run --resume)."""
    _set_state("resume", sweep, directory, as_json)


@app.command()
def stop(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Stop a sweep: its running runs finish, then it ends."""
    _set_state("stop", sweep, directory, as_json)


@app.command()
def cancel(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Cancel a sweep: its running runs are ended now."""
    _set_state("cancel", sweep, directory, as_json)


@app.command()
def drain(
    sweep: Sweep,
    worker: Annotated[int, typer.Option(help="The worker's slot, as 0 or w0.", parser=parse_slot)],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Let one worker of a running sweep finish its run and leave for good."""
    from parallel_hpo.cli import steering
    from parallel_hpo.core.types import Slot
    from parallel_hpo.session.decide.events import DrainAsked

    with errors_as_exit_codes():
        steering.tell(directory_of(directory), sweep, DrainAsked(Slot(worker)), as_json=as_json)


@app.command()
def scale(
    sweep: Sweep,
    workers: Annotated[int, typer.Argument(help="So many from now on.", min=1, max=MOST_WORKERS)],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Give a running sweep more or fewer workers."""
    from parallel_hpo.cli import steering
    from parallel_hpo.session.decide.events import ScaleAsked

    with errors_as_exit_codes():
        steering.tell(directory_of(directory), sweep, ScaleAsked(workers), as_json=as_json)


app.command()(clean)
app.command()(upload)

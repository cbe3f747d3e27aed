"""All commands, their arguments and options."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from parallel_hpo.cli.output import errors_as_exit_codes, print_for_machines
from parallel_hpo.cli.section_options import RunCommand, given
from parallel_hpo.config.sweep_words import EngineChoice
from parallel_hpo.plan import MOST_WORKERS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # an error is a line or two, not a box
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print_for_machines(f"parallel-hpo {version('parallel_hpo')}")
        except PackageNotFoundError:
            print_for_machines("parallel-hpo (not installed: run from its sources)")
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
    if context.obj and context.invoked_subcommand != "run":
        raise typer.BadParameter(f"{context.invoked_subcommand} takes nothing after --")


@app.command(cls=RunCommand)
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="A file with an hpo section, or a W&B sweep file.")],
    target: Annotated[
        str | None,
        typer.Argument(help="package.module:function or file.py:function; missing: the sweep's program."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this sweep: what is left of its count.", metavar="SWEEP")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="Perform the I-th of N shares of the count.", metavar="I/N|slurm"),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the sweep and print its id only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary (or plan) on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and the end only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="The workers' states too.")] = False,
) -> None:
    """Run a sweep; what stands after -- are the target's own arguments.

    The options that come first override keys of the hpo section.
    """
    from parallel_hpo.cli.run import Display, Request, perform
    from parallel_hpo.cli.share import parse_share
    from parallel_hpo.plan import Launch

    display = Display(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    with errors_as_exit_codes():
        launch = Launch(resume, None if share is None else parse_share(share, os.environ))
        words = tuple(sys.argv)
        request = Request(config, target, context.obj or (), given(context), launch, create, display, words)
        raise typer.Exit(perform(request))


@app.command()
def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)] = 0,
    database: Annotated[
        str | None, typer.Option(help="Path or URL; missing: server.db in the data folder.")
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option(help="Search engine of the sweeps that are created here.")
    ] = EngineChoice.AUTO,
    files: Annotated[
        str | None,
        typer.Option(
            help="Folder of uploaded files and of the key; servers of one database must share it."
            " Missing: where they are, or server-files beside the database.",
            metavar="FOLDER",
        ),
    ] = None,
    adopt_files: Annotated[
        bool,
        typer.Option("--adopt-files", help="Go on with that folder though the files were elsewhere."),
    ] = False,
) -> None:
    """Run the sweep server alone, until a signal: one JSON line on stdout says where it is."""
    from parallel_hpo.server.log_quota import log_to_stderr
    from parallel_hpo.server.process import Place, serve

    log_to_stderr()
    with errors_as_exit_codes():
        place = Place(host, port, database, engine, files=files, adopt_files=adopt_files)
        serve(place, stdin=sys.stdin.buffer, stdout=sys.stdout)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="A file with an hpo section.")] = None,
    target: Annotated[str | None, typer.Argument(help="What its runs would call, as for run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what would make a sweep fail here; exit code 1 where something is bad."""
    from parallel_hpo.cli.doctor import perform_doctor

    with errors_as_exit_codes():
        raise typer.Exit(perform_doctor(config, target, as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the hpo section."""
    from parallel_hpo.config.hpo import section_schema

    with errors_as_exit_codes():
        print_for_machines(json.dumps(section_schema(), indent=2))


_Sweep = Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP")]
_Directory = Annotated[
    Path | None, typer.Option(help="Where sweeps are kept; missing: as for run.", metavar="FOLDER")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _directory(given: Path | None) -> Path:
    from parallel_hpo.config.loader import find_directory

    return find_directory(given, os.environ)


@app.command()
def status(
    sweep: Annotated[str | None, typer.Argument(help="Missing: all sweeps.", metavar="[SWEEP]")] = None,
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Say how far a sweep is, or all of them."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.status(_directory(directory), sweep, as_json=as_json)


@app.command()
def runs(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """List a sweep's runs."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.runs(_directory(directory), sweep, as_json=as_json)


@app.command()
def best(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """Show a sweep's best run so far."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.best(_directory(directory), sweep, as_json=as_json)


@app.command()
def logs(
    sweep: _Sweep,
    worker: Annotated[int | None, typer.Argument(help="Its slot; missing: all.", min=0)] = None,
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Print what the workers of a sweep printed."""
    from parallel_hpo.cli import verbs

    with errors_as_exit_codes():
        verbs.logs(_directory(directory), sweep, worker, as_json=as_json)


def _set_state(verb: str, sweep: str, directory: Path | None, as_json: bool) -> None:
    from parallel_hpo.cli import steering

    with errors_as_exit_codes():
        steering.set_state(_directory(directory), sweep, verb, as_json=as_json)


@app.command()
def pause(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """Pause a sweep: no new runs for now."""
    _set_state("pause", sweep, directory, as_json)


@app.command()
def resume(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """Let a paused sweep go on (to go on with one that ended early: run --resume)."""
    _set_state("resume", sweep, directory, as_json)


@app.command()
def stop(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """Stop a sweep: its running runs finish, then it ends."""
    _set_state("stop", sweep, directory, as_json)


@app.command()
def cancel(sweep: _Sweep, directory: _Directory = None, as_json: _Json = False) -> None:
    """Cancel a sweep: its running runs are ended now."""
    _set_state("cancel", sweep, directory, as_json)


@app.command()
def drain(
    sweep: _Sweep,
    worker: Annotated[int, typer.Option(help="The worker's slot.", min=0)],
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Let one worker of a running sweep finish its run and leave for good."""
    from parallel_hpo.cli import steering
    from parallel_hpo.supervisor.decisions.events import DrainAsked
    from parallel_hpo.words import Slot

    with errors_as_exit_codes():
        steering.tell(_directory(directory), sweep, DrainAsked(Slot(worker)), as_json=as_json)


@app.command()
def scale(
    sweep: _Sweep,
    workers: Annotated[int, typer.Argument(help="So many from now on.", min=1, max=MOST_WORKERS)],
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Give a running sweep more or fewer workers."""
    from parallel_hpo.cli import steering
    from parallel_hpo.supervisor.decisions.events import ScaleAsked

    with errors_as_exit_codes():
        steering.tell(_directory(directory), sweep, ScaleAsked(workers), as_json=as_json)


@app.command()
def clean(
    sweeps: Annotated[
        list[str] | None, typer.Argument(help="Missing: all that are over.", metavar="[SWEEP]...")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only such, by their last sign.", metavar="30d")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would go.")] = False,
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Remove old sweeps' folders, and what the embedded server has of them; what W&B has stays."""
    from parallel_hpo.cli.clean import clean

    with errors_as_exit_codes():
        clean(_directory(directory), sweeps or (), older_than, yes=yes, as_json=as_json)

"""The command `join`, its arguments and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parallel_hpo.cli.options import Directory
from parallel_hpo.cli.output import errors_as_exit_codes


def join(
    context: typer.Context,
    sweep: Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP")],
    config: Annotated[
        Path | None, typer.Argument(help="A file whose hpo section has what is this machine's own.")
    ] = None,
    target: Annotated[
        str | None, typer.Argument(help="As for run; missing: what the sweep was created with.")
    ] = None,
    directory: Directory = None,
    name: Annotated[
        str | None, typer.Option(help="What this machine is called; missing: its host name.", metavar="NAME")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Don't join anew, and stop where standard input, a pipe, ends."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and the end only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="The workers' states too.")] = False,
) -> None:
    """Have this machine take part in a sweep; WANDB_BASE_URL and WANDB_API_KEY name its server."""
    from parallel_hpo.cli.join import JoinRequest, perform_join
    from parallel_hpo.cli.run import DisplayFlags

    display = DisplayFlags(dry_run=False, as_json=False, quiet=quiet, verbose=verbose)
    with errors_as_exit_codes():
        request = JoinRequest(sweep, config, target, context.obj or (), directory, name, once, display)
        raise typer.Exit(perform_join(request))

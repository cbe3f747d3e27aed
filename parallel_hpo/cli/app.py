"""The Typer app: registers the commands of this package's files, in the order of the help."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from parallel_hpo.cli.clean import clean
from parallel_hpo.cli.compare import compare
from parallel_hpo.cli.doctor import doctor
from parallel_hpo.cli.export import export, report
from parallel_hpo.cli.join import join
from parallel_hpo.cli.logs import logs
from parallel_hpo.cli.open import open_page
from parallel_hpo.cli.options import RunCommand
from parallel_hpo.cli.output import errors_as_exit_codes, print_for_machines
from parallel_hpo.cli.rerun import rerun
from parallel_hpo.cli.run import run
from parallel_hpo.cli.show import best, runs, status
from parallel_hpo.cli.steer import cancel, drain, pause, resume, scale, stop
from parallel_hpo.cli.upload import upload
from parallel_hpo.core.version import __version__


class CommandGroup(TyperGroup):
    """All commands; an error of this package is a line on stderr and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with errors_as_exit_codes():
            return super().invoke(ctx)


app = typer.Typer(
    cls=CommandGroup,
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


def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)] = 0,
    database: Annotated[
        str | None,
        typer.Option(help="Path or URL of the database (default: server.db in the data folder)."),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            help="Folder of uploaded files and of the key; servers of one database must share it"
            " (default: where they are, or server-files beside the database).",
            metavar="FOLDER",
        ),
    ] = None,
    adopt_files: Annotated[
        bool,
        typer.Option("--adopt-files", help="Use that folder although the files were in another one."),
    ] = False,
    tls_certificate: Annotated[
        str | None, typer.Option(help="Certificate for HTTPS, as PEM (default: plain HTTP).", metavar="FILE")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(help="Private key of the certificate, as PEM.", metavar="FILE")
    ] = None,
) -> None:
    """Run the sweep server alone, until a signal.

    Prints its address and key as one line of JSON.
    """
    from parallel_hpo.server.http.process import ServerConfig, certificate_of, serve
    from parallel_hpo.server.http.settings import log_to_stderr

    log_to_stderr()
    tls = certificate_of(tls_certificate, tls_key)
    config = ServerConfig(host, port, database, files=files, adopt_files=adopt_files, tls=tls)
    serve(config, stdin=sys.stdin.buffer, stdout=sys.stdout)


def schema() -> None:
    """Print the JSON Schema of the hpo section."""
    from parallel_hpo.config.section import section_schema

    print_for_machines(json.dumps(section_schema(), indent=2))


app.command(cls=RunCommand)(run)
app.command()(join)
app.command()(server)
app.command("open")(open_page)
for command in (
    *(doctor, schema, status, runs, best, logs, rerun, compare, export, report),
    *(pause, resume, stop, cancel, drain, scale, clean, upload),
):
    app.command()(command)

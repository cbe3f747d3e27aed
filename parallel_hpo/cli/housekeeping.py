"""The commands that run a server, and that look after what servers and sweeps have kept."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of, sweep_ids
from parallel_hpo.cli.output import errors_as_exit_codes


def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)] = 0,
    database: Annotated[
        str | None, typer.Option(help="Path or URL; missing: server.db in the data folder.")
    ] = None,
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
    tls_certificate: Annotated[
        str | None, typer.Option(help="Speak HTTPS by this certificate (PEM).", metavar="FILE")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its private key (PEM).", metavar="FILE")] = None,
) -> None:
    """Run the sweep server alone, until a signal: one JSON line on stdout says where it is."""
    from parallel_hpo.server.http.process import ServerConfig, certificate_of, serve
    from parallel_hpo.server.http.settings import log_to_stderr

    log_to_stderr()
    with errors_as_exit_codes():
        tls = certificate_of(tls_certificate, tls_key)
        place = ServerConfig(host, port, database, files=files, adopt_files=adopt_files, tls=tls)
        serve(place, stdin=sys.stdin.buffer, stdout=sys.stdout)


def clean(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(help="Missing: all that are over.", metavar="[SWEEP]...", autocompletion=sweep_ids),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(help="All of a project: sweeps, runs, artifacts.", metavar="[ENTITY/]NAME"),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only such, by their last sign.", metavar="30d")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Of another server: its sweeps, which have no folder here.")
    ] = None,
    files: Annotated[
        str | None, typer.Option(help="That server's folder of files.", metavar="FOLDER")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are over, however young.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Remove; without it, only say what would go. Needs names, --project, --older-than or --all.",
        ),
    ] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Remove old sweeps: their folders, and what their server has of them; what W&B has stays.

    A server's database is smaller at once, and without what uploads left unfinished and no artifact uses.
    """
    from parallel_hpo.cli.clean import CleanSelection, perform_clean
    from parallel_hpo.cli.kept import ProjectPath

    with errors_as_exit_codes():
        named = None if project is None else ProjectPath.parse(project)
        wanted = CleanSelection(sweeps or (), named, database, files, older_than, everything)
        perform_clean(directory_of(directory), wanted, yes=yes, as_json=as_json)


def upload(
    sweep: Sweep,
    project: Annotated[
        str | None, typer.Option(help="Missing: WANDB_PROJECT, or the sweep's own.", metavar="NAME")
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help="Missing: the one that the client goes to by itself.", metavar="NAME")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Of another server than the embedded one.", metavar="PATH|URL")
    ] = None,
    files: Annotated[
        str | None, typer.Option(help="That server's folder of files.", metavar="FOLDER")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Bring a sweep of the embedded server into the W&B server that one is logged in to.

    It may be called again: it goes on where it was cut short, and brings what has come meanwhile.
    """
    from parallel_hpo.cli.upload import UploadRequest, perform_upload
    from parallel_hpo.upload.perform import Destination
    from parallel_hpo.upload.plan import place_at, place_in

    with errors_as_exit_codes():
        folder = directory_of(directory)
        source = place_in(folder) if database is None else place_at(database, files)
        destination = Destination(
            entity or os.environ.get("WANDB_ENTITY"), project or os.environ.get("WANDB_PROJECT")
        )
        wish = UploadRequest(sweep, source, destination)
        raise typer.Exit(perform_upload(folder, wish, dry_run=dry_run, as_json=as_json))

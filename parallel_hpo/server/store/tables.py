"""The database's tables for SQLite and PostgreSQL, and what all queries share.

`migrations/` makes the same tables step by step. Tables with a record in `records` are made of its fields. An
id that a client may hold is never reused: PostgreSQL does so by itself, SQLite needs AUTOINCREMENT.

A transaction may be limited to one sweep. Runs without a sweep are visible to all. Found records may be
followed freely: a run leads to its own sweep and lines only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    or_,
    select,
    true,
)

from parallel_hpo.server.store.records import Agent, Project, Run, Sweep, columns_of, types_in

REVISIONS: Final = sorted(
    path.name[1:5] for path in (Path(__file__).parent / "migrations" / "versions").glob("v*.py")
)
"""The revisions known to this version, oldest first, by the migrations' files."""
HEAD: Final = REVISIONS[-1]
"""The newest revision; a database at it opens without Alembic, which is slow to import."""

metadata = MetaData()

# The same as Alembic's own table, so that either may write it.
alembic_version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

projects = Table(
    "projects",
    metadata,
    *columns_of(Project),
    UniqueConstraint("entity", "name", name="projects_entity_name"),
    sqlite_autoincrement=True,
)

sweeps = Table("sweeps", metadata, *columns_of(Sweep), Index("sweeps_project", "project_id"))

agents = Table("agents", metadata, *columns_of(Agent), Index("agents_sweep_label", "sweep_id", "label"))

runs = Table(
    "runs",
    metadata,
    *columns_of(Run),
    UniqueConstraint("project_id", "name", name="runs_project_name"),
    # One index for each query of heartbeats and timeouts: none of them scans a sweep's runs.
    Index("runs_sweep_state", "sweep_id", "state"),
    Index("runs_sweep_waiting", "sweep_id", "waiting"),
    Index("runs_sweep_revision", "sweep_id", "sweep_revision"),
    Index("runs_sweep_name", "sweep_id", "name"),
    Index("runs_agent_state", "agent_id", "state"),
    Index("runs_state_heard", "state", "heard_at"),
    # For pages of runs, newest or oldest first.
    Index("runs_project_created", "project_id", "created_at"),
    Index("runs_sweep_created", "sweep_id", "created_at"),
    sqlite_autoincrement=True,
)

lines = Table(
    "lines",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    # 0 history, 1 events, 2 console output.
    Column("stream", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("step", BigInteger),
    Column("text", Text, nullable=False),
    Index("lines_step", "run_id", "stream", "step"),
    sqlite_with_rowid=False,
)

# Points whose run was deleted, or ended before it started: the next agents get them.
open_points = Table(
    "open_points",
    metadata,
    Column("sweep_id", ForeignKey("sweeps.id"), primary_key=True),
    Column("sweep_index", Integer, primary_key=True, autoincrement=False),
    Column("assigned", Text, nullable=False),
)

# Early stopping: a run's loss at a band's iteration.
band_losses = Table(
    "band_losses",
    metadata,
    Column("sweep_id", ForeignKey("sweeps.id"), primary_key=True),
    Column("band", Integer, primary_key=True, autoincrement=False),
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("loss", Float(53), nullable=False),
    Index("band_losses_run", "run_id"),
)

# Uploaded files of runs; their bytes are in the folder of files.
run_files = Table(
    "run_files",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("name", String(1000), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("md5", String(32), nullable=False),
    Column("updated_at", Float(53), nullable=False),
)

# The folder of files; its id is in a file within it.
files_folder = Table(
    "files_folder",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("path", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("database", Text, nullable=False),
)

# W&B's "artifact sequence", versions v0, v1, … under one name; or a portfolio of links to versions.
collections = Table(
    "artifact_collections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("type", String(255), nullable=False),
    Column("description", Text),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    # Of a portfolio: the number of its next link; null: a sequence.
    Column("next_link", Integer),
    # A JSON list of names; null: none.
    Column("tags", Text),
    UniqueConstraint("project_id", "name", name="artifact_collections_project_name"),
    sqlite_autoincrement=True,
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("collection_id", ForeignKey("artifact_collections.id"), nullable=False),
    # The run that logged it; null if none did, or it was deleted.
    Column("run_id", ForeignKey("runs.id")),
    # Null until it is committed.
    Column("version", Integer),
    Column("state", String(16), nullable=False),
    Column("digest", Text, nullable=False),
    # The client's own id, from before the artifact was created here.
    Column("client_id", String(255)),
    Column("description", Text),
    Column("metadata", Text),
    Column("tags", Text, nullable=False),
    # Aliases to set at the commit.
    Column("wanted_aliases", Text, nullable=False),
    Column("history_step", BigInteger),
    Column("ttl_s", BigInteger),
    Column("size", BigInteger, nullable=False),
    Column("file_count", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    # Whether its manifest holds only the difference to the version before; null: no.
    Column("incremental", Boolean),
    Index("artifacts_collection_version", "collection_id", "version"),
    Index("artifacts_client", "client_id"),
    Index("artifacts_run", "run_id"),
    sqlite_autoincrement=True,
)

artifact_aliases = Table(
    "artifact_aliases",
    metadata,
    Column("collection_id", ForeignKey("artifact_collections.id"), primary_key=True),
    Column("alias", String(128), primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), nullable=False),
    Index("artifact_aliases_artifact", "artifact_id"),
)

# Files of committed artifacts' manifests; `digest` is the MD5 in Base64 (wandb client), `ref` the URL of a
# file that is stored elsewhere.
artifact_files = Table(
    "artifact_files",
    metadata,
    Column("artifact_id", ForeignKey("artifacts.id"), primary_key=True),
    Column("path", String(1000), primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("ref", Text),
)

artifact_uses = Table(
    "artifact_uses",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), primary_key=True),
    Index("artifact_uses_artifact", "artifact_id"),
)

# Runs that logged an artifact after another run had.
artifact_outputs = Table(
    "artifact_outputs",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), primary_key=True),
    Index("artifact_outputs_artifact", "artifact_id"),
)

# Versions in portfolios, each with the number of its link.
artifact_links = Table(
    "artifact_links",
    metadata,
    Column("collection_id", ForeignKey("artifact_collections.id"), primary_key=True),
    Column("artifact_id", ForeignKey("artifacts.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Index("artifact_links_artifact", "artifact_id"),
)


OPTION: Final = "only_sweep"

R = TypeVar("R", Project, Sweep, Agent, Run)

_ENUMS: Final[Mapping[type, Mapping[str, type[StrEnum]]]] = {
    kind: {name: found for name, found in types_in(kind).items() if issubclass(found, StrEnum)}
    for kind in (Project, Sweep, Agent, Run)
}


def only_sweep(connection: Connection) -> str | None:
    """Return the only sweep that this transaction may see; None: all."""
    sweep_id: str | None = connection.get_execution_options().get(OPTION)
    return sweep_id


def may_see(connection: Connection, sweep_id: str | None) -> bool:
    """Return whether the transaction may see records of this sweep, or of none."""
    own = only_sweep(connection)
    return own is None or sweep_id in (None, own)


def seen(connection: Connection) -> ColumnElement[bool]:
    """Return the SQL condition of the runs that the transaction may see."""
    own = only_sweep(connection)
    return true() if own is None else or_(runs.c.sweep_id.is_(None), runs.c.sweep_id == own)


def record(kind: type[R], row: Row[Any]) -> R:
    """Return a row as a record; it must have a column for each field."""
    values = {field.name: row._mapping[field.name] for field in fields(kind)}
    return kind(**values | {name: enum(values[name]) for name, enum in _ENUMS[kind].items()})


def insert_one(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    """Insert a row and return its id."""
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    """Count the rows that meet a condition."""
    found: int = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
    return found

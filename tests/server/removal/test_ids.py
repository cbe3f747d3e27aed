"""The ids that clients hold mean one thing for ever, whatever was deleted."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, insert

from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.store.tables import collections, insert_one, metadata, projects
from tests.server.acting import Services
from tests.server.web import URL, Web

DELETE = "mutation D($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"


def started(services: Services, name: str) -> int:
    """Begin a run, and return its key."""
    run_service.upsert(services.world, RunUpsert(name=name, project="p"))
    return services.run(name).id


def test_deleting_a_run_once_more_deletes_no_other_run(services: Services) -> None:
    id_of_old = started(services, "old")
    with Web(services) as web:
        web.ask(DELETE, id=f"run:{id_of_old}")
        started(services, "new")
        web.ask(DELETE, id=f"run:{id_of_old}")
    assert services.run("new").id > id_of_old


def test_an_address_of_a_deleted_runs_file_leads_to_no_other_run(services: Services) -> None:
    started(services, "old")
    (file,) = run_files.create(services.world, URL, RunPath("local", "p", "old"), ["config.yaml"]).files
    services.delete("old")
    id_of_new = started(services, "new")
    with Web(services, key=None) as web:
        web.put(file.upload_url or "", content=b"of the old run")
    assert not (services.world.files / str(id_of_new) / "config.yaml").exists()


COUNTED = [
    table for table in metadata.sorted_tables if "id" in table.c and table.c.id.type.python_type is int
]


def row(table: Any, number: int) -> dict[str, Any]:
    """A row with something in each column that must have something."""
    needed = [column for column in table.c if not column.nullable and not column.primary_key]
    filled = {column.name: column.type.python_type(number) for column in needed if not column.foreign_keys}
    return filled | {column.name: 1 for column in needed if column.foreign_keys}


@pytest.mark.parametrize("table", COUNTED, ids=lambda table: table.name)
def test_the_last_id_of_a_table_is_not_given_again(services: Services, table: Any) -> None:
    with services.world.database.write() as transaction:
        for parent in metadata.sorted_tables[: metadata.sorted_tables.index(table)]:
            if parent in (projects, collections):
                transaction.execute(insert(parent).values(id=1, **row(parent, 0)))
        last = insert_one(transaction, table, row(table, 1))
        transaction.execute(delete(table).where(table.c.id == last))
        assert insert_one(transaction, table, row(table, 2)) > last

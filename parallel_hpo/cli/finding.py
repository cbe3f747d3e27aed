"""Finds the sweep that a command is about; the first of these that has it:

    the folder's ledger ─▶ the pool in the directory's server.db ─▶ the pool on the server in the environment

A sweep that machines have joined has no ledger here, unless a coordinator ran it. The events of its pool
contain the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import sweep_id_of

if TYPE_CHECKING:
    from parallel_hpo.core.pool_messages import NewPool, PoolNews
    from parallel_hpo.records.folders import KnownSweep
    from parallel_hpo.server.context import AppContext


class PoolReader(Protocol):
    """Reads a sweep's pool."""

    def facts(self) -> NewPool | None:
        """Return the facts that the pool was created with; None without a pool."""

    def events(self, event: int) -> PoolNews:
        """Return the events after this number, `AT_ONCE` at most."""


def find_anywhere(directory: Path, sweep: str, environment: Mapping[str, str] | None = None) -> KnownSweep:
    """Return the sweep of that id or path.

    Raises:
        UsageError: it is nowhere.
        LedgerError: its ledger can't be read.
        BackendError: a server, or its database, doesn't answer now.
    """
    from parallel_hpo.records.folders import find_sweep
    from parallel_hpo.records.reader import ledgers_in

    folder = directory / sweep_id_of(sweep)
    if ledgers_in(folder):
        return find_sweep(directory, sweep)
    known = _in_database(folder)
    if known is not None:
        return known
    url, key = find_pool_server(os.environ if environment is None else environment)
    known = _on_server(folder, url, key)
    if known is not None:
        return known
    if key:
        elsewhere = f"{url} doesn't have it, or isn't a parallel_hpo server that answers"
    else:
        elsewhere = "set WANDB_BASE_URL and WANDB_API_KEY to look on another server"
    try:
        return find_sweep(directory, sweep)
    except UsageError as error:
        raise UsageError(f"{error}; {elsewhere}") from None


def find_pool_server(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the address of the server with the pools, and its key; None without a key."""
    from parallel_hpo.client.credentials import find_credentials
    from parallel_hpo.core.pool_messages import POOL_KEY, POOL_URL

    login = find_credentials(environment)
    return environment.get(POOL_URL) or login.base_url, environment.get(POOL_KEY) or login.key


def _in_database(folder: Path) -> KnownSweep | None:
    """Return a sweep from the server's database in the directory; None if it isn't there."""
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import

    with local.opened(folder.parent) as context:
        return None if context is None else known_by_pool(_DatabasePool(context, folder.name), folder)


def _on_server(folder: Path, url: str, key: str | None) -> KnownSweep | None:
    """Return a sweep from the parallel_hpo server at an address; None if there is none, or no such sweep."""
    # urllib3 takes 0.1 s to import
    from parallel_hpo.client.server_client import PoolClient, is_ours

    if not key or not is_ours(url):
        return None
    known = known_by_pool(PoolClient(url, key, folder.name), folder)
    return None if known is None else replace(known, facts=known.facts | _address_facts(url, known.facts))


def _address_facts(url: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that depend on the server's address as seen from here, not from its creator."""
    from urllib.parse import urlsplit

    if facts["backend"] != "local":
        return {}
    return {"backend": "wandb", "url": url + urlsplit(str(facts["url"])).path}


def known_by_pool(source: PoolReader, folder: Path) -> KnownSweep | None:
    """Return a sweep read from its pool, as though its ledger were in `folder`; None without a pool."""
    from tempfile import TemporaryDirectory

    from parallel_hpo.core.pool_messages import AT_ONCE
    from parallel_hpo.records.folders import find_sweep
    from parallel_hpo.records.ledger import Ledger
    from parallel_hpo.records.reader import LEDGER

    pool = source.facts()
    if pool is None:
        return None
    with TemporaryDirectory(prefix="parallel-hpo-") as temporary:
        copy = Path(temporary) / folder.name
        with Ledger(copy / LEDGER) as ledger:
            began_at = None
            while True:
                news = source.events(ledger.last_event()[0])
                if began_at is None and news.events:
                    began_at = news.events[0].at
                ledger.append(news.events, durable=False)
                if len(news.events) < AT_ONCE:
                    break
            ledger.record_facts(_facts(pool, news, began_at))
        known = find_sweep(copy.parent, folder.name)
        performed = tuple(known.performed)
    return replace(known, folder=folder, of_pool=performed, supervised=(folder,) if news.living else ())


def _facts(pool: NewPool, news: PoolNews, began_at: float | None) -> dict[str, Any]:
    """Return the facts of the sweep that a coordinator's ledger would contain."""
    from parallel_hpo.session.rerun import POOL_MAIN
    from parallel_hpo.session.sweep import VERSIONS

    metric = pool.configuration.get("metric") or {}
    ends = news.ends
    ending = {} if ends is None else {"stop_reason": ends.reason, "exit_code": ends.exit_code}
    return ending | {
        "path": pool.path,
        "name": pool.configuration.get("name"),
        "began_at": began_at,
        "url": pool.url,
        "backend": pool.backend,
        "count": pool.count,
        "metric": metric.get("name"),
        "goal": metric.get("goal", "minimize"),
        "seed_parameter": pool.section.get("seed_parameter"),
        POOL_MAIN: pool.main,
        VERSIONS: asdict(pool.versions),
    }


class _DatabasePool:
    """A pool in the database of a directory; a PoolReader."""

    def __init__(self, context: AppContext, sweep: str) -> None:
        self._context = context
        self._sweep = sweep

    def facts(self) -> NewPool | None:
        """Return the facts that the pool was created with; None without a pool."""
        from parallel_hpo.core.pool_messages import NewPool, read
        from parallel_hpo.server.services import pool
        from parallel_hpo.server.values import RefusedError

        with suppress(RefusedError):  # there is no pool
            return read(NewPool, json.loads(pool.facts(self._context, self._sweep)))
        return None

    def events(self, event: int) -> PoolNews:
        """Return the events after this number."""
        from parallel_hpo.server.services import pool

        return pool.watch(self._context, self._sweep, event)

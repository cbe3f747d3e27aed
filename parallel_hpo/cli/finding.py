"""Where the commands find a sweep that they are to speak of: the first place that has it.

    the folder's ledger ─▶ the pool in the directory's server.db ─▶ the pool on the server that is named

A sweep that machines have joined has no ledger here, unless a head performed it. Its pool's events say what
a ledger would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.pool_messages import AT_ONCE, POOL_KEY, POOL_URL, NewPool, PoolNews, read
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.records.folders import KnownSweep, find_sweep
from parallel_hpo.records.ledger_views import LEDGER, ledgers_in

if TYPE_CHECKING:
    from parallel_hpo.server.context import AppContext


class PoolReader(Protocol):
    """Says what a sweep's pool knows."""

    def facts(self) -> NewPool | None:
        """Return the pool as it was asked for; None: there is none."""

    def events(self, event: int) -> PoolNews:
        """Return the events after this number, `AT_ONCE` at most."""


def find_anywhere(directory: Path, sweep: str, environment: Mapping[str, str] | None = None) -> KnownSweep:
    """Return the sweep of that id or path from the first place that has it.

    Raises:
        UsageError: no place has it.
        LedgerError: its ledger can't be read.
        BackendError: a server, or its database, can't be asked now.
    """
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
        elsewhere = f"{url} doesn't have it, or isn't a server of ours that answers"
    else:
        elsewhere = "set WANDB_BASE_URL and WANDB_API_KEY to look on another server"
    try:
        return find_sweep(directory, sweep)
    except UsageError as error:
        raise UsageError(f"{error}; {elsewhere}") from None


def find_pool_server(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the address of the server that has the pools, and the key to it; None: there is no key."""
    login = find_credentials(environment)
    return environment.get(POOL_URL) or login.base_url, environment.get(POOL_KEY) or login.key


def _in_database(folder: Path) -> KnownSweep | None:
    """Return what the server's database in the directory has of a sweep; None: nothing."""
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.store.database import UnavailableError

    try:
        with local.opened(folder.parent) as world:
            return None if world is None else known_by_pool(_Database(world, folder.name), folder)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None


def _on_server(folder: Path, url: str, key: str | None) -> KnownSweep | None:
    """Return what the server at an address has of a sweep; None: nothing, or it is no server of ours."""
    # urllib3 takes 0.1 s to import
    from parallel_hpo.client.server_client import PoolClient, is_ours

    if not key or not is_ours(url):
        return None
    known = known_by_pool(PoolClient(url, key, folder.name), folder)
    return None if known is None else replace(known, facts=known.facts | _reached_at(url, known.facts))


def _reached_at(url: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that depend on where the server was found, which its creator may know otherwise."""
    if facts["backend"] != "local":
        return {}
    return {"backend": "wandb", "url": url + urlsplit(str(facts["url"])).path}


def known_by_pool(source: PoolReader, folder: Path) -> KnownSweep | None:
    """Return a sweep as its pool has it, as though its ledger were in `folder`; None: there is no pool."""
    from parallel_hpo.cluster.watcher import EventCopier, LedgerCopy

    pool = source.facts()
    if pool is None:
        return None
    with TemporaryDirectory(prefix="parallel-hpo-") as place:
        copy = Path(place) / folder.name
        with LedgerCopy(copy / LEDGER) as ledger:
            mirror = EventCopier(ledger, folder.name, lambda notice: None)
            began_at = None
            while True:
                news = source.events(mirror.last_event)
                if began_at is None and news.events:
                    began_at = news.events[0].at
                mirror.take(news)
                if len(news.events) < AT_ONCE:
                    break
            ledger.record_facts(_facts(pool, news, began_at))
        known = find_sweep(copy.parent, folder.name)
        shares = tuple(known.performed)
    return replace(known, folder=folder, of_pool=shares, supervised=(folder,) if news.living else ())


def _facts(pool: NewPool, news: PoolNews, began_at: float | None) -> dict[str, Any]:
    """Return what a head's ledger would know of the sweep."""
    from parallel_hpo.session.launch_record import VERSIONS
    from parallel_hpo.session.rerun import POOL_MAIN

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


class _Database:
    """A pool in the database of a directory; a PoolReader."""

    def __init__(self, world: AppContext, sweep: str) -> None:
        self._world = world
        self._sweep = sweep

    def facts(self) -> NewPool | None:
        """Return the pool as it was asked for; None: there is none."""
        from parallel_hpo.server.services import pool
        from parallel_hpo.server.values import RefusedError

        with suppress(RefusedError):  # it has none
            return read(NewPool, json.loads(pool.facts(self._world, self._sweep)))
        return None

    def events(self, event: int) -> PoolNews:
        """Return the events after this number."""
        from parallel_hpo.server.services import pool

        return pool.watch(self._world, self._sweep, event)

"""A fixed share of a count that a pool keeps: performed on this machine, wherever it was begun.

    run … --share 2/4 ─▶ this machine's part in the pool, in which it performs the runs of that share alone
                      └▶ share-2-of-4/: ledger and summary of all that the share has had, on any machine

A launch that comes after one whose machine and disk are gone so performs what is left of the share.
"""

from __future__ import annotations

from collections.abc import Mapping

from parallel_hpo.backend.choose import choose_backend
from parallel_hpo.backend.credentials import find_credentials
from parallel_hpo.backend.door import ask_patiently, is_away
from parallel_hpo.backend.pool import PoolDoor
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.errors import ExitCode, PoolOverError, ServerAwayError, UsageError
from parallel_hpo.head.share_book import ShareBook
from parallel_hpo.notices import Observer
from parallel_hpo.plan import Share
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.supervisor.node import AWAIT_SERVER_S, take_part
from parallel_hpo.supervisor.node_stage import NodePart
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.words import Program, Target, sweep_id_of


def find_share(
    section: HpoSection, sweep: str, share: Share, environment: Mapping[str, str], name: str
) -> NodePart | None:
    """Return a share's part in its sweep's pool, as machine `name`; None: the sweep has no pool.

    A server that does not answer is waited for: whether the share is counted there must be known.

    Raises:
        UsageError: the share is one of another count than the pool's.
        BackendError: the server does not answer.
    """
    credentials = find_credentials(environment)
    url, key = credentials.base_url, credentials.key or ""
    if not ask_patiently(lambda: _is_on_ours(section, environment, url), within_s=AWAIT_SERVER_S):
        return None
    pool = ask_patiently(PoolDoor(url, key, sweep_id_of(sweep)).facts, within_s=AWAIT_SERVER_S)
    if pool is None:
        return None
    if None not in (pool.count, section.count) and pool.count != section.count:
        raise UsageError(
            f"--share {share} of {section.count} runs: the sweep was created with a count of {pool.count},"
            " and its shares are shares of that; leave the other count out"
        )
    total = pool.count or section.count
    assert total is not None, "a share is one of a count"
    return NodePart(pool, url, key, name, share, share.count(total))


def _is_on_ours(section: HpoSection, environment: Mapping[str, str], url: str) -> bool:
    """Return whether the sweep is on a server of ours that somebody else has started.

    Raises ServerAwayError where nobody answers, so that it can't be known.
    """
    chosen = choose_backend(section.backend, environment)
    if not chosen.ours and chosen.name != "local" and is_away(url):
        raise ServerAwayError(f"{url} does not answer: is the sweep's server up?")
    return chosen.ours


def perform_share(
    part: NodePart,
    section: HpoSection,
    main: Target | Program,
    *,
    observer: Observer,
    environment: Mapping[str, str] | None = None,
) -> SweepResult:
    """Perform what is left of a share; return what became of all of it, on whichever machines.

    Raises what `take_part` raises, and LedgerError where another launch performs the share in this directory.
    """
    with ShareBook(part, section, main, observer, environment) as book:
        try:
            ended = take_part(part, section, main, observer=observer, once=False, environment=environment)
            ending = Ending(ended.stop_reason, ExitCode(ended.exit_code))
        except PoolOverError as error:
            ending = Ending(str(error), ExitCode(error.ends_with))
        return book.conclude(ending)

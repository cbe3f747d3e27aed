"""A coordinator that is stopped while it opens its sweep's pool."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from parallel_hpo.cluster.setup import run_on_cluster
from parallel_hpo.config.section import BackendChoice, HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.pool_messages import NewPool
from parallel_hpo.core.types import StopKind, Target
from parallel_hpo.count.policy import Launch
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.signals import Control
from tests.cluster.pools import RecordedPool, news
from tests.conftest import make_clean_env
from tests.processes.conftest import MAINS, RANDOM


class SilentPool(RecordedPool):
    """A pool that does not answer, until its waiter has been stopped twice."""

    def __init__(self, control: Control) -> None:
        super().__init__([news()])
        self._control = control
        self.over = threading.Event()

    def facts(self) -> NewPool | None:
        for _ in range(2):
            self._control.put(StopAsked(StopKind.INTERRUPT, "SIGINT", ExitCode.RESUMABLE))
        self.over.wait()
        return None


def test_two_stops_while_the_pool_does_not_answer_end_the_launch_with_their_word(tmp_path: Path) -> None:
    section = HpoSection(
        sweep_configuration=RANDOM, directory=tmp_path / "sweeps", backend=BackendChoice.LOCAL
    )
    with closing(Control()) as control:
        pool = SilentPool(control)
        try:
            result = run_on_cluster(
                section,
                Target(str(MAINS), "quick"),
                observer=lambda notice: None,
                control=control,
                launch=Launch(),
                machines=Machines(),
                make_engine=None,
                make_pool_client=lambda url, key, sweep: pool,
                environment=make_clean_env(tmp_path / "home"),
            )
        finally:
            pool.over.set()
    assert (result.exit_code, result.stop_reason) == (ExitCode.RESUMABLE, "SIGINT before the sweep was open")

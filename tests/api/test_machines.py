"""The choice of machines by section and joblib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.api.hpo import ALL, Main
from parallel_hpo.api.wandb_sweeps import WandbSweeps
from parallel_hpo.cluster.base import ClusterEngine
from parallel_hpo.cluster.hosted import ClusterChoice
from parallel_hpo.config.section import HpoSection, parse_section
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core.notices import Observer
from parallel_hpo.count.policy import Launch
from parallel_hpo.session.signals import Control
from tests.api.supervision import CLEAN, ignore, main
from tests.results import RESULT

SWEEP = {"sweep_configuration": {"method": "random", "parameters": {"lr": {"value": 0.1}}}}


@dataclass
class Calls:
    """Records calls instead of performing them."""

    supervised: int = 0
    led: list[tuple[Machines, bool]] = field(default_factory=list)
    """Machines, and whether an engine was chosen."""

    def supervise(
        self, section: HpoSection, main: Main, *, observer: Observer, control: Control, launch: Launch
    ) -> SweepResult:
        self.supervised += 1
        return RESULT

    def run_on_cluster(
        self,
        section: HpoSection,
        main: Main,
        *,
        observer: Observer,
        control: Control,
        launch: Launch,
        machines: Machines,
        make_engine: Callable[[], ClusterEngine] | None,
    ) -> SweepResult:
        self.led.append((machines, make_engine is not None))
        return RESULT


def performed(choice: ClusterChoice | None, **section: object) -> Calls:
    """Return the calls of `optimize` with a section and this choice."""
    calls = Calls()
    checked = parse_section({**SWEEP, **section}, origin=lambda key: "c")
    sweeps = WandbSweeps(
        checked,
        supervise=calls.supervise,
        run_on_cluster=calls.run_on_cluster,
        choose=lambda machines: choice,
        host=CLEAN,
    )
    sweeps.perform(main, observer=ignore, launch=ALL)
    return calls


def test_a_sweep_uses_this_machine_by_default() -> None:
    assert performed(None) == Calls(supervised=1)


def test_a_section_with_an_engine_has_its_machines() -> None:
    calls = performed(ClusterChoice(MachineEngine.DASK), machines={"engine": "dask", "node_timeout_s": 60})
    assert calls.led == [(Machines(engine=MachineEngine.DASK, node_timeout_s=60), True)]


def test_a_section_without_an_engine_waits_for_machines_that_join() -> None:
    assert performed(None, machines={"node_timeout_s": 60}).led == [(Machines(node_timeout_s=60), False)]


def test_joblibs_cluster_needs_no_key() -> None:
    assert performed(ClusterChoice(MachineEngine.RAY)).led == [(Machines(), True)]

"""A fake supervisor, and the HPO that calls it."""

from __future__ import annotations

from collections.abc import Callable

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.api.hpo import Main, Platform
from parallel_hpo.api.wandb_sweeps import Supervise, WandbSweeps
from parallel_hpo.config.section import HpoSection, parse_section
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.count.policy import Launch
from parallel_hpo.session.signals import Control
from tests.results import RESULT

SECTION = parse_section(
    {"sweep_configuration": {"method": "random", "parameters": {"lr": {"value": 0.1}}}},
    origin=lambda key: "c",
)
CLEAN = Platform({})


class FakeSupervisor:
    """Records its calls, and returns a configured result."""

    def __init__(self, result: SweepResult = RESULT, during: Callable[[], object] = lambda: None) -> None:
        self.result = result
        self.during = during
        self.mains: list[Main] = []
        self.controls: list[Control] = []

    def __call__(
        self, section: HpoSection, main: Main, *, observer: Observer, control: Control, launch: Launch
    ) -> SweepResult:
        assert section is SECTION
        self.launch = launch
        self.mains.append(main)
        self.controls.append(control)
        observer(Message("supervised"))
        self.during()
        return self.result


def hpo(supervise: Supervise | None = None, host: Platform = CLEAN) -> WandbSweeps:
    return WandbSweeps(SECTION, supervise=supervise or FakeSupervisor(), host=host)


def main() -> None:
    """Stand in for a user's function."""


def ignore(notice: object) -> None:
    """Observe nothing."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import RunId
from parallel_hpo.worker.progress import ProgressTracker


class Logging:
    """A fake run; wandb's own is tested in `tests/processes`."""

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.starting_step = 0
        self.logged: list[Any] = []
        self.log: Any = self._log

    def _log(self, data: Any, step: int | None = None, commit: bool | None = None) -> None:
        self.logged.append((data, step, commit))


class Watched:
    """A tracker that reports at once."""

    def __init__(self) -> None:
        self.told: queue.Queue[Progress] = queue.Queue()
        self.progress = ProgressTracker()
        self.progress.metric = "loss"
        self.progress.report(self.told.put, every_s=0.0)
        self.progress.begin(RunId("r"))

    def run(self, **config: Any) -> Logging:
        run = Logging(**config)
        self.progress.watch(run)
        return run

    def last(self) -> Progress:
        return self.told.get(timeout=10)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.progress._send = None
    made.progress._news.set()


def part(progress: Progress) -> tuple[float | None, float | None]:
    return progress.done, progress.total


def test_steps_are_counted_as_by_wandb(watched: Watched) -> None:
    run, steps = watched.run(), []
    given: list[dict[str, Any]] = [{"step": 10}, {"step": 10}, {"step": 11, "commit": True}]
    for arguments in ({}, {}, {"commit": False}, {}, *given, {}):
        run.log({"loss": 1.0}, **arguments)
        steps.append(watched.last().step)
    assert steps == [0, 1, 2, 2, 10, 10, 11, 12]
    assert len(run.logged) == 8


def test_the_shown_metric_is_the_last_logged_value(watched: Watched) -> None:
    run = watched.run()
    values = []
    for data in ({"lr": 0.1, "name": "x"}, {"loss": 2.0}, {"lr": 0.2}, {"loss": "none"}):
        run.log(data)
        told = watched.last()
        values.append((told.name, told.value))
    assert values == [("lr", 0.1), ("loss", 2.0), ("loss", 2.0), ("loss", 2.0)]


@pytest.mark.parametrize(
    ("config", "logged", "done"),
    [
        ({"max_steps": 40}, [{"a": 1}, {"a": 1}], (2, 40)),
        ({"max_steps": 40}, [{"global_step": 10}], (10, 40)),
        ({"epochs": 4}, [{"a": 1}], (1, 4)),
        ({"epochs": 4}, [{"epoch": 0}, {"epoch": 2, "a": 1}], (3, 4)),
        ({"epochs": 4}, [{"epoch": 1}, {"epoch": 2}], (2, 4)),
        ({"epochs": 4, "max_steps": 100}, [{"a": 1}], (1, 100)),
        ({"epochs": 4, "max_steps": 100}, [{"epoch": 1}], (1, 4)),
        ({"epochs": 1}, [{"a": 1}, {"a": 1}], (None, None)),
        ({"max_steps": -1}, [{"a": 1}], (None, None)),
        ({"epochs": "many"}, [{"a": 1}], (None, None)),
        ({}, [{"a": 1}], (None, None)),
    ],
)
def test_progress_is_known_if_step_and_total_fit(
    watched: Watched, config: dict[str, Any], logged: list[dict[str, Any]], done: tuple[Any, Any]
) -> None:
    run = watched.run(**config)
    for data in logged:
        run.log(data)
        told = watched.last()
    assert part(told) == done


def test_progress_reads_the_config_that_main_changed_later_and_leaves_invalid_data_to_wandb(
    watched: Watched,
) -> None:
    run = watched.run()
    run.config["max_steps"] = 5
    run.log("nothing that has numbers")
    run.log({"loss": 1.0})
    told = watched.last()
    assert (part(told), told.value) == ((2, 5), 1.0)


def test_progress_is_reset_for_the_next_run(watched: Watched) -> None:
    watched.run().log({"loss": 1.0})
    assert watched.last().run_id == "r"
    watched.progress.begin(RunId("s"))
    watched.run().log({"other": 2.0})
    told = watched.last()
    assert (told.run_id, told.step, told.name) == ("s", 0, "other")

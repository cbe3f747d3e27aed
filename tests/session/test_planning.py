"""The plan of a sweep before it starts, and its exit code at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError, ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.node import section_of_node
from parallel_hpo.session.planning import plan_sweep
from parallel_hpo.session.sweep import exit_code_of

COMPLETE = SweepEnd("all 2 runs performed", ExitCode.COMPLETE)
ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from parallel_hpo.config.section import HpoSection
from parallel_hpo.devices.cores import count_cores
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.session.planning import place_workers
section = HpoSection(sweep_id="x")
print(count_cores(), place_workers(section, {}, NoDriver("none")).workers)
"""


def test_a_plan_contains_the_workers_devices_shares_and_environment(tmp_path: Path) -> None:
    section = HpoSection.model_validate(
        {"sweep_id": "x", "backend": "local", "count": 3, "directory": str(tmp_path)}
    )
    plan = plan_sweep(section, {"CUDA_VISIBLE_DEVICES": "3,5"}, open_library=lambda: NoDriver("none"))
    assert (plan.workers, plan.shares, plan.devices) == (2, (2, 1), ("3", "5"))
    assert plan.environment["CUDA_VISIBLE_DEVICES"] == "3"


def test_planning_fails_if_the_deadline_has_passed(tmp_path: Path) -> None:
    keys = {"sweep_id": "x", "backend": "local", "devices": "cpu", "directory": str(tmp_path)}
    section = HpoSection.model_validate({**keys, "deadline": "2026-01-01 18:00"})
    with pytest.raises(ConfigError, match=r"hpo\.deadline is 2026-01-01T18:00:00.*, which has passed"):
        plan_sweep(section, {})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_only_cores_in_the_affinity_mask_are_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.parametrize("has_coordinator", [True, False])
def test_one_of_several_machines_leaves_sweep_wide_limits_to_the_pool(has_coordinator: bool) -> None:
    keys = {"count": 3, "sweep_timeout_s": 5, "deadline": "1h", "failures": {"max_total": 1}}
    section = HpoSection.model_validate({"sweep_id": "x", "seed": 7, **keys})
    node = section_of_node(section, has_coordinator=has_coordinator)
    assert (node.count, node.sweep_timeout_s, node.failures.max_total) == (None,) * 3
    assert node.deadline == (None if has_coordinator else "1h"), (
        "without a coordinator it is each machine's own hour"
    )
    assert node.seed == 7, "each run's own follows from it, wherever it is"


def test_a_plan_of_a_new_sweep_warns_of_implausible_log_uniform_bounds(tmp_path: Path) -> None:
    rate = {"distribution": "log_uniform", "min": 0.0001, "max": 0.1}
    sweep = {"method": "random", "parameters": {"lr": rate}}
    keys = {"sweep_configuration": sweep, "backend": "local", "devices": "cpu", "directory": str(tmp_path)}
    notes = plan_sweep(HpoSection.model_validate(keys), {}).notes
    assert any(note.warning and note.text.endswith("distribution log_uniform_values") for note in notes)
    assert not plan_sweep(HpoSection.model_validate({**keys, "sweep_id": "x"}), {}).notes


def row(value: float | None, outcome: Outcome = Outcome.FINISHED) -> RunRow:
    return RunRow(RunId("r"), {}, Slot(0), None, 1, 0, outcome, "", value, None, resumable=False)


def test_a_complete_sweep_without_any_metric_value_exits_with_no_run_finished() -> None:
    assert exit_code_of(COMPLETE, [row(None), row(None)], metric="loss") == ExitCode.NO_RUN_FINISHED
    assert exit_code_of(COMPLETE, [row(None), row(0.5)], metric="loss") == ExitCode.COMPLETE


def test_the_value_of_an_unfinished_run_does_not_count() -> None:
    stopped = [row(0.5, Outcome.STOPPED), row(None)]
    assert exit_code_of(COMPLETE, stopped, metric="loss") == ExitCode.NO_RUN_FINISHED


def test_a_sweep_without_metric_or_runs_is_complete_and_other_endings_keep_their_code() -> None:
    assert exit_code_of(COMPLETE, [row(None)], metric=None) == ExitCode.COMPLETE
    assert exit_code_of(COMPLETE, [], metric="loss") == ExitCode.COMPLETE
    assert exit_code_of(SweepEnd("SIGTERM", 143), [row(None)], metric="loss") == 143

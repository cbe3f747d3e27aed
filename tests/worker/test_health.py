"""Whether a process is well enough for another run."""

from __future__ import annotations

from collections.abc import Callable

from parallel_hpo.worker.restoring import why_unwell
from tests.processes.usages import refuse


def test_a_process_that_nobody_has_touched_is_well() -> None:
    assert why_unwell() == ""


def test_what_a_run_has_patched_is_named_with_its_error() -> None:
    probes: dict[str, Callable[[], object]] = {"json": dict, "socket": refuse}
    assert why_unwell(probes) == "its last run left socket broken: RuntimeError: patched by main"

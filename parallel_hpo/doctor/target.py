"""The doctor on a target and on what is preloaded: tried in a child, as a sweep would."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Final

from parallel_hpo.config.section import HpoSection, StartMethod
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import ParallelHPOError, TargetError
from parallel_hpo.core.types import Program, Target
from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.pickling.main import pack_main
from parallel_hpo.processes.pool import ChildCalls, ChildPool
from parallel_hpo.processes.reaper import MARK, make_mark
from parallel_hpo.records.folders import working_folder
from parallel_hpo.worker.target import load_main, why_unfit

LIMIT_S: Final = 600.0
"""Importing a target may load a large framework from a slow disk."""


def examine_target(
    section: HpoSection, main: Target | Program, environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Say whether `main` can be loaded and called in a worker, and whether it could be pickled."""
    own = {**environment, MARK: make_mark()}
    children = ChildPool(
        environment=own,
        fresh=section.start_method is StartMethod.SPAWN,
        preload=tuple(section.preload),
        sys_path=tuple(sys.path),
    )
    children.open()
    with closing(children):
        calls = ChildCalls(children, ChildSetup(own, tuple(sys.path), working_folder()))
        try:
            children.wait_until_ready()
            unfit, unpicklable = calls.run(f"{__name__}:try_target", (main,), {}, LIMIT_S)
        except ParallelHPOError as error:
            yield bad("target", str(error), "see what it says; workers would fail alike")
            return
    if children.warning:
        yield warning("preload", children.warning, "leave that module out")
    if unfit:
        yield bad("target", unfit, "correct it: every worker would fail alike")
    elif unpicklable:
        yield warning("target", unpicklable, "by name, as here, it works; optimize() would refuse it")
    else:
        yield good("target", f"{main} can be loaded, called and pickled")
    metric = (section.sweep_configuration or {}).get("metric", {}).get("name")
    if metric and not unfit:
        words = f"whether a run logs {metric!r} shows only when it runs; the first that doesn't is warned of"
        yield good("metric", words)


def try_target(main: Target | Program) -> tuple[str, str]:
    """Return why `main` can't be called, and why not pickled; each '' where it can. Runs in a child."""
    unfit = why_unfit(main)
    if unfit or isinstance(main, Program):
        return unfit, ""
    try:
        with ExitStack() as stack:
            pack_main(load_main(main), stack)
    except TargetError as error:
        return "", str(error)
    return "", ""

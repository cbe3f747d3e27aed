"""W&B's engine in tests: where its package is installed, and children that stand in for its process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import pytest

from parallel_hpo.search.wandb_process import WandbProcess

Test = TypeVar("Test", bound=Callable[..., None])


def _is_installed() -> bool:
    try:
        version("sweeps")
    except PackageNotFoundError:
        return False
    return True


_skipped = pytest.mark.skipif(
    not _is_installed(), reason="W&B's engine isn't installed: scripts/test-wandb-engine has it"
)


def needs_wandb_engine(test: Test) -> Test:
    """Leave a test to `scripts/test-wandb-engine`, where there is no such engine."""
    marked: Test = pytest.mark.wandb_engine(_skipped(test))
    return marked


without_wandb_engine = pytest.mark.skipif(_is_installed(), reason="W&B's engine is installed")


@contextmanager
def wandb_process(script: str | None = None, *, limit_s: float = 5.0) -> Iterator[WandbProcess]:
    """The engine's process; with `script`: a child that says it is ready, and then does that."""
    if script is None:
        process = WandbProcess()
        assert process.is_ready(within_s=60)
    else:
        ready = 'import os, sys, time\nprint("{}", flush=True)\n'
        process = WandbProcess((sys.executable, "-c", ready + script), ask_limit_s=limit_s)
        assert process.is_ready(within_s=30)
    try:
        yield process
    finally:
        process.close()

"""Calls of functions in children, where wandb may be imported, waited for with a deadline.

They hear no stops: the main thread makes them through `Patience.call`, and closes the children after a stop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from parallel_hpo.errors import BackendError
from parallel_hpo.protocol.spec import CallResult, ChildCall, Surroundings
from parallel_hpo.supervisor.processes.child import Child, ScarcityError
from parallel_hpo.supervisor.processes.child_pool import ChildPool

KEPT_OUTPUT_BYTES: Final = 20_000
"""Of what a call prints, so much of the end is kept for the error message."""
SCARCE_S: Final = 0.5
"""Between two tries where the system has no process or descriptor for a call."""


class ChildCalls:
    """Makes calls, each in a child of its own."""

    def __init__(self, children: ChildPool, surroundings: Surroundings) -> None:
        """`surroundings` are every child's, but for the variables of its own."""
        self._children = children
        self._surroundings = surroundings

    def run(
        self, function: str, arguments: tuple[Any, ...], environment: Mapping[str, str], limit_s: float
    ) -> Any:
        """Return what `function` ("module:name") returned.

        Raises:
            BackendError: it raised (its exception in words), died, or took longer than `limit_s`.
        """
        own = replace(self._surroundings, environment={**self._surroundings.environment, **environment})
        child = self._spawn(ChildCall(own, function, arguments), limit_s)
        try:
            result = self._await(child, limit_s)
        except BaseException:
            child.kill()
            raise
        finally:
            os.close(child.output)
            child.connection.close()
        if result.error:
            raise BackendError(result.error)
        return result.value

    def _spawn(self, call: ChildCall, limit_s: float) -> Child:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return self._children.spawn(call)
            except ScarcityError as error:
                if time.monotonic() > deadline:
                    raise BackendError(f"no process for it: {error}") from None
                time.sleep(SCARCE_S)

    def _await(self, child: Child, limit_s: float) -> CallResult:
        deadline = time.monotonic() + limit_s
        printed = b""
        sources: list[Connection | int] = [child.connection, child.output]
        while (left_s := deadline - time.monotonic()) > 0:
            ready = wait(sources, left_s)
            if child.output in ready:
                data = os.read(child.output, 65536)
                if not data:
                    sources.remove(child.output)  # it has closed its streams and goes on
                printed = (printed + data)[-KEPT_OUTPUT_BYTES:]
            if child.connection in ready:
                return _receive(child, printed)
        said = _last_words(printed)
        raise BackendError(f"no answer within {limit_s:g} s{f'; it said: {said}' if said else ''}")


def _receive(child: Child, printed: bytes) -> CallResult:
    try:
        result = child.connection.recv()
    except (EOFError, OSError):
        said = _last_words(printed)
        raise BackendError(f"the child that was to answer died; it said: {said or 'nothing'}") from None
    assert isinstance(result, CallResult)
    return result


def _last_words(printed: bytes) -> str:
    """Return the end of what a call has printed, in one line."""
    return " ".join(printed.decode(errors="replace").split())[-500:]

"""Errands: one call in a child with wandb in it, waited for with a deadline and an ear for stops."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from parallel_hpo.errors import BackendError
from parallel_hpo.supervisor.child import Child
from parallel_hpo.supervisor.children import Nursery
from parallel_hpo.worker.spec import Errand, ErrandResult, Surroundings

KEPT_OUTPUT_BYTES: Final = 20_000
"""Of what an errand prints, so much of the end is kept for the error message."""


class ErrandInterruptedError(Exception):
    """A stop was asked while an errand was waited for; the errand has been killed."""


class Errands:
    """Runs errands in the nursery's children."""

    def __init__(
        self,
        nursery: Nursery,
        surroundings: Callable[[Mapping[str, str]], Surroundings],
        *,
        bell: int | None = None,
    ) -> None:
        """`surroundings` makes a child's from variables of its own; `bell` becomes readable at a stop."""
        self._nursery = nursery
        self._surroundings = surroundings
        self._bell = bell

    def stop_listening(self) -> None:
        """Let errands from now on be finished through a stop: the loop hears it."""
        self._bell = None

    def run(
        self, function: str, arguments: tuple[Any, ...], environment: Mapping[str, str], limit_s: float
    ) -> Any:
        """Return what `function` ("module:name") returned.

        Raises:
            BackendError: it raised (its exception in words), died, or took longer than `limit_s`.
            ErrandInterruptedError: a stop was asked meanwhile.
        """
        child = self._nursery.bear(Errand(self._surroundings(environment), function, arguments))
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

    def _await(self, child: Child, limit_s: float) -> ErrandResult:
        deadline = time.monotonic() + limit_s
        printed = b""
        sources: list[Connection | int] = [child.connection, child.output]
        sources += [] if self._bell is None else [self._bell]
        while (left_s := deadline - time.monotonic()) > 0:
            ready = wait(sources, left_s)
            if child.output in ready:
                data = os.read(child.output, 65536)
                if not data:
                    sources.remove(child.output)  # it has closed its streams and goes on
                printed = (printed + data)[-KEPT_OUTPUT_BYTES:]
            if child.connection in ready:
                return _receive(child, printed)
            if self._bell in ready:
                raise ErrandInterruptedError
        said = " ".join(printed.decode(errors="replace").split())[-500:]
        raise BackendError(f"no answer within {limit_s:g} s{f'; it said: {said}' if said else ''}")


def _receive(child: Child, printed: bytes) -> ErrandResult:
    try:
        result = child.connection.recv()
    except (EOFError, OSError):
        said = " ".join(printed.decode(errors="replace").split())[-500:]
        raise BackendError(f"the child that was to answer died; it said: {said or 'nothing'}") from None
    assert isinstance(result, ErrandResult)
    return result

"""Limits of a pool, read from the `hpo` section when it is opened.

A file of its own: importing pydantic takes a sixth of a server's start, and most servers have no pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from parallel_hpo.config.section import Deadline
from parallel_hpo.config.tables import Failures, Limit
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.server.values import RefusedError


class PoolLimits(BaseModel):
    """The keys of the section that count over all nodes."""

    failures: Failures = Failures()
    sweep_timeout_s: Limit = None
    deadline: Deadline = None

    @property
    def of_failures(self) -> FailureLimits:
        """The maximum numbers of failed runs."""
        return FailureLimits(**self.failures.model_dump())


def limits_in(section: Mapping[str, Any]) -> PoolLimits:
    """Return the section's limits; RefusedError (400) names an invalid key."""
    try:
        return PoolLimits.model_validate(dict(section))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RefusedError(
            f"NewPool.section.{where}: {error.errors()[0]['msg']}; see docs/configuration.md", status=400
        ) from None

"""What a pool itself must know of the `hpo` section. It is read when a pool is opened.

Pydantic takes a sixth of a server's start, and most servers have no pool.
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
    """The keys of the section that are a pool's too."""

    failures: Failures = Failures()
    sweep_timeout_s: Limit = None
    deadline: Deadline = None

    @property
    def of_failures(self) -> FailureLimits:
        """How many runs may fail."""
        return FailureLimits(**self.failures.model_dump())


def limits_in(section: Mapping[str, Any]) -> PoolLimits:
    """Return what the section says of them; RefusedError (400) names the key that is wrong."""
    try:
        return PoolLimits.model_validate(dict(section))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RefusedError(
            f"NewPool.section.{where}: {error.errors()[0]['msg']}; see docs/configuration.md", status=400
        ) from None

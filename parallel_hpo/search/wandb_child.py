"""The child in which W&B's own engine runs: reads questions and writes answers, a JSON line each.

    {"columns", "finished", "failed", "pending", "seed"} ─▶ {"point": […]} or {"error": "…"}

Run as a script with Python's -P, so that nothing of the caller's folder is imported in
its place. It imports the standard library and what W&B's engine needs, and nothing of ours.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import Any, Final

_LIMIT_S: Final = 30
"""Beyond what the parent waits: a question that hangs ends this process also where the parent is gone."""


def main() -> None:
    """Answer until the input ends; the first line written says that questions can come."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the engine prints now and then
    import sweeps.bayes_search  # noqa: F401  # it would take 2 s of the first question's time

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        signal.alarm(_LIMIT_S)
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)
        signal.alarm(0)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"point": _suggest(**question)}
    except Exception as error:  # noqa: BLE001  # an edge: whatever the engine raises is an answer
        return {"error": f"{type(error).__name__}: {error}"}


def _suggest(
    *,
    columns: int,
    finished: list[tuple[list[float], float]],
    failed: list[list[float]],
    pending: list[list[float]],
    seed: int,
) -> list[float]:
    """Return the point that W&B's engine suggests in a cube of so many columns, where less is better."""
    import numpy
    import sweeps

    names = [f"x{number}" for number in range(columns)]

    def run(state: str, point: list[float], **more: Any) -> Any:
        config = {name: {"value": value} for name, value in zip(names, point, strict=True)}
        return sweeps.SweepRun(state=state, config=config, **more)

    random.seed(seed)
    numpy.random.seed(seed)  # the engine draws from the global one
    suggested = sweeps.next_run(
        {
            "method": "bayes",
            "metric": {"name": "loss", "goal": "minimize"},
            "parameters": {name: {"min": 0.0, "max": 1.0} for name in names},
        },
        [
            *(run("finished", point, summary_metrics={"loss": loss}) for point, loss in finished),
            *(run("failed", point) for point in failed),
            *(run("pending", point) for point in pending),
        ],
    )
    return [float(suggested.config[name]["value"]) for name in names]


if __name__ == "__main__":
    main()

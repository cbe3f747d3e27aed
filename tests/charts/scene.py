"""A large and uneven artificial sweep for the charts, in the server's format.

Runs of 200 have 10,000 points each, one in ten failed, one is still running. `momentum` is set for one of the
optimizers only, `lr` is drawn from a log-uniform distribution and decides most of the metric.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Final

START: Final = 1_700_000_000.0
WORKERS: Final = 4
OPTIMIZERS: Final = ("adam", "rmsprop", "sgd")
DANGEROUS: Final = "</script><img src=x onerror=alert(1)>"
"""Name of a run, which must be shown as plain text."""


@dataclass(frozen=True)
class Scene:
    """A sweep with a number of runs, and points per run."""

    runs: int = 200
    points: int = 10_000

    def sweep(self) -> dict[str, Any]:
        """Return what /pages/data/…/sweeps/ID answers."""
        values = self._column(self._value)
        known = [(value, self._id(row)) for row, value in enumerate(values) if value is not None]
        return {
            "sweep": {
                "id": "swept001", "name": "made up", "entity": "local", "project": "scene",
                "state": "RUNNING", "method": "random", "created": START, "count": self.runs,
                "metric": {"name": "loss", "goal": "minimize"}, "used": "",
            },
            "parameters": [
                _axis("optimizer.lr", "number", log=True, low=1e-5, high=1.0),
                _axis("optimizer.name", "category", values=list(OPTIMIZERS)),
                _axis("optimizer.momentum", "number", low=0.0, high=1.0),
                _axis("layers", "integer", low=1, high=8),
                _axis("batch", "integer", values=[16, 32, 64, 128]),
                _axis("dropout", "number", low=0.0, high=0.5),
                _axis("seed", "integer", values=[1], varied=False),
            ],
            "runs": {
                "id": self._column(self._id),
                "name": [DANGEROUS if row == 1 else f"brave-run-{row}" for row in range(self.runs)],
                "state": self._column(self.state),
                "value": values,
                "started": self._column(self._started),
                "ended": self._column(self._ended),
                "spent": [None] * self.runs,
                "since": [None] * self.runs,
                "attempts": [2 if row % 17 == 3 else 1 for row in range(self.runs)],
                "worker": [f"host/{row % WORKERS}" for row in range(self.runs)],
                "sweep": ["swept001"] * self.runs,
                "parameters": self._parameters(),
            },
            "keys": ["accuracy", "loss"],
            "best": min(known)[1] if known else None,
            "revision": "1",
            "complete": True,
        }  # fmt: skip

    def histories(self, key: str, x: str, points: int, ids: list[str] | None) -> dict[str, Any]:
        """Return the answer of …/histories, each curve reduced to `points` points."""
        wanted = [row for row in range(self.runs) if ids is None or self._id(row) in ids]
        return {"key": key, "x": x, "runs": [self._series(row, key, x, points) for row in wanted]}

    def history(self, key: str, x: str, points: int) -> dict[str, Any]:
        """Return what …/runs/ID/history answers."""
        series = self._series(0, key, x, points)
        return {"key": key, "x": x, "points": {"x": series["x"], "y": series["y"]}}

    def timeline(self) -> dict[str, Any]:
        """Return what …/timeline answers."""
        lanes = [
            {"name": f"worker {slot}", "machine": "host", "device": f"GPU {slot % 2}"}
            for slot in range(WORKERS)
        ]
        bars = [
            {
                "lane": row % WORKERS, "run": self._id(row), "attempt": 1, "start": self._started(row),
                "end": self._ended(row), "outcome": self.state(row) if self._ended(row) else None,
            }
            for row in range(self.runs)
        ]  # fmt: skip
        marks = [
            {"lane": 1, "at": START + 100, "kind": "restart", "text": "SIGKILL"},
            {"lane": 2, "at": START + 300, "kind": "retry", "text": "exit 1"},
            {"lane": 2, "at": START + 400, "kind": "retry", "text": "exit 1"},
            {"lane": 3, "at": START + 500, "kind": "quarantine", "text": "GPU 1: three failures in a row"},
        ]
        return {"now": START + self.runs * 15.0 + 60, "lanes": lanes, "bars": bars, "marks": marks}

    def state(self, row: int) -> str:
        """Return the state of a run."""
        if row == self.runs - 1:
            return "running"
        return "failed" if row % 10 == 7 else "finished"

    def _column(self, fact: Any) -> list[Any]:
        return [fact(row) for row in range(self.runs)]

    def _id(self, row: int) -> str:
        return f"run{row:05d}"

    def _started(self, row: int) -> float:
        return START + (row // WORKERS) * 60.0 + (row % WORKERS) * 3

    def _ended(self, row: int) -> float | None:
        return None if self.state(row) == "running" else self._started(row) + 30 + (row * 7) % 25

    def _value(self, row: int) -> float | None:
        return None if self.state(row) != "finished" else round(self._floor(row), 5)

    def _floor(self, row: int) -> float:
        """Return the loss to which a run converges."""
        drawn = self._drawn(row)
        return float(0.05 + 0.12 * (math.log10(drawn["optimizer.lr"]) + 2.5) ** 2 + 0.02 * drawn["dropout"])

    def _drawn(self, row: int) -> dict[str, Any]:
        dice = random.Random(row)
        name = dice.choice(OPTIMIZERS)
        return {
            "optimizer.lr": 10 ** dice.uniform(-5, 0),
            "optimizer.name": name,
            "optimizer.momentum": dice.random() if name == "sgd" else None,
            "layers": dice.randint(1, 8),
            "batch": dice.choice((16, 32, 64, 128)),
            "dropout": dice.uniform(0, 0.5),
            "seed": 1,
        }

    def _parameters(self) -> dict[str, list[Any]]:
        drawn = [self._drawn(row) for row in range(self.runs)]
        return {name: [each[name] for each in drawn] for name in self._drawn(0)}

    def _series(self, row: int, key: str, x: str, points: int) -> dict[str, Any]:
        """Return a reduced series: a smooth curve with one spike, which is kept."""
        dice = random.Random(f"{row} {key}")
        stride = max(1, self.points // points)
        steps = sorted({*range(0, self.points, stride), self.points // 3})
        height = 3.0 if row % 5 == 0 else 0.0
        floor = self._floor(row)
        losses = [floor + 2 * math.exp(-5 * step / self.points) + 0.02 * dice.random() for step in steps]
        values = [
            round(loss + height * (step == self.points // 3), 6)
            for step, loss in zip(steps, losses, strict=True)
        ]
        if key == "accuracy":
            values = [round(1 / (1 + value), 6) for value in values]
        times = [round(self._started(row) + step / 300, 3) for step in steps]
        return {"id": self._id(row), "x": steps if x == "step" else times, "y": values}


def _axis(name: str, kind: str, **others: Any) -> dict[str, Any]:
    given = {"log": False, "varied": True, "low": None, "high": None, "values": None}
    return {"name": name, "kind": kind} | given | others

"""Queries a sweep server for each run's data by W&B's own API: `asking.py PROJECT METRIC`.

It runs in a separate process with WANDB_BASE_URL and WANDB_API_KEY, and prints JSON by run id.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import wandb

from scripts.framework_rows.rows import BEGUN


def main() -> None:
    """Query the server, and print the answer."""
    project, metric = sys.argv[1:]
    runs = wandb.Api().runs(f"local/{project}")
    print(json.dumps({run.id: _facts(run, metric) for run in runs}))


def _facts(run: Any, metric: str) -> dict[str, Any]:
    value = run.summary.get(metric)
    if not isinstance(value, int | float | None):  # define_metric(summary="min") makes it {"min": x}
        (value,) = dict(value).values()
    logged = [row[metric] for row in run.scan_history(keys=[metric])]
    lines = "".join(line.content for line in run.console_logs())
    return {"value": value if value in logged else None, "said": BEGUN in lines}


if __name__ == "__main__":
    main()

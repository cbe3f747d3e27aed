"""Whether the run that is on was asked to stop by its server, though nobody in this process has heard of it.

A program, or a child of `main`, has a wandb client of its own, which hears of a stop by itself and
interrupts its process, mostly before the agent here is told to: its end then looks like a death or
a failure. The embedded server says which; of W&B's own that can't be asked.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from parallel_hpo.words import RunId, SweepPath

ASK_LIMIT_S: Final = 10.0
_QUERY: Final = """query RunStop($entity: String, $project: String, $run: String!) {
  project(entityName: $entity, name: $project) { run(name: $run) { shouldStop } }
}"""


def was_asked_to_stop(path: SweepPath, run_id: RunId) -> bool:
    """Ask the embedded server; False also where it does not answer, which is said in the log."""
    import requests  # wandb's own, loaded with it

    names = {"entity": path.entity, "project": path.project, "run": run_id}
    try:
        answer = requests.post(
            f"{os.environ['WANDB_BASE_URL']}/graphql",
            json={"query": _QUERY, "variables": names},
            auth=("api", os.environ["WANDB_API_KEY"]),
            timeout=ASK_LIMIT_S,
        ).json()
        return bool(answer["data"]["project"]["run"]["shouldStop"])
    except (KeyError, TypeError, ValueError, requests.RequestException) as error:
        print(f"parallel_hpo: whether the run was asked to stop is not known: {error!r}", file=sys.stderr)
        return False

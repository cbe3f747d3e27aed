"""Other libraries with runs that only sleep: peers.py joblib|optuna|ray WORKERS. Prints the seconds."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

SLEEPS_S: Final[list[float]] = json.loads(os.environ["BENCH_FIGURES"])


def run_joblib(workers: int) -> None:
    """Run with joblib and its defaults."""
    import joblib

    joblib.Parallel(n_jobs=workers)(joblib.delayed(time.sleep)(seconds) for seconds in SLEEPS_S)


def run_optuna(workers: int) -> None:
    """Run with Optuna, in processes that share one study in a journal."""
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal.log")
        processes = [multiprocessing.Process(target=work_on_study, args=(journal,)) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


def work_on_study(journal: str) -> None:
    """Run trials of the study until all runs are done."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(journal))
    study = optuna.create_study(study_name="bench", storage=storage, load_if_exists=True)
    while (trial := study.ask()).number < len(SLEEPS_S):
        trial.suggest_float("x", 0, 1)
        time.sleep(SLEEPS_S[trial.number])
        study.tell(trial, 0.0)


def run_ray(workers: int) -> None:
    """Run with Ray Tune, on a cluster that it starts itself."""
    ray = importlib.import_module("ray")  # an optional extra, unknown to type checkers
    tune = importlib.import_module("ray.tune")

    def sleep(config: dict[str, Any]) -> dict[str, float]:
        time.sleep(SLEEPS_S[config["index"]])
        return {"loss": 0.0}

    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
    space = {"index": tune.grid_search(list(range(len(SLEEPS_S))))}
    tune.Tuner(sleep, param_space=space).fit()
    ray.shutdown()


PEERS: Final[dict[str, Callable[[int], None]]] = {
    "joblib": run_joblib,
    "optuna": run_optuna,
    "ray": run_ray,
}

if __name__ == "__main__":
    began = time.monotonic()
    PEERS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(time.monotonic() - began))

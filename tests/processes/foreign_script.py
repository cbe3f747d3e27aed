"""A script as a user writes it: arguments, a pool, joblib, dataclasses."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import wandb
from joblib import Parallel, delayed

from parallel_hpo import ConfigLoader

LOCK = threading.Lock()
SCALE = 2
calls = 0


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


class Checkpointed:
    value = 7


@functools.lru_cache
def scaled(n: int) -> int:
    return SCALE * n


def make(n: int) -> Point:
    return Point(SCALE * n)


def count() -> None:
    global calls
    calls += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, required=True)
    args = parser.parse_args()
    run = wandb.init()
    count()
    wanted = [Point(0), Point(scaled(1)), Point(scaled(2))]
    assert pickle.loads(pickle.dumps(wanted)) == wanted
    assert pickle.loads(b"c__main__\nCheckpointed\n.").value == 7
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(make, range(3)) == wanted
    for method in os.environ["METHODS"].split():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as executor:
            assert list(executor.map(make, range(3))) == wanted
    assert Parallel(n_jobs=2)(delayed(make)(n) for n in range(3)) == wanted
    run.log({"loss": args.lr, "calls": calls})


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        result = hpo.optimize(main)
        raise SystemExit(result.exit_code)

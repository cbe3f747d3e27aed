"""The streams of random numbers that a run begins with, and its own seed where the sweep has one."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Final

from parallel_hpo.worker.agent import read_parameters, write_parameters

SEED_VARIABLE: Final = "PARALLEL_HPO_SEED"


def begin_streams(seed: int | None, *, parameter: str | None = None) -> None:
    """Let `random` and a loaded numpy begin by the run's seed, which stands in the environment then.

    None: by chance; a forked worker would else repeat its sibling's. Under the name `parameter` the
    seed is also one of the run's parameters.
    """
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")  # numpy loads it when it is first asked for
    if numpy_random is not None:
        numpy_random.seed(seed)
    if seed is None:
        return
    os.environ[SEED_VARIABLE] = str(seed)
    if parameter is not None:
        file = Path(os.environ["WANDB_SWEEP_PARAM_PATH"])
        write_parameters(file, {**read_parameters(os.environ), parameter: seed})

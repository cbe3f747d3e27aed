"""A user's script on a Dask cluster, as joblib's users write it: its arguments are CONFIG, ADDRESS and MAIN.

The ADDRESS `local` stands for a `LocalCluster` of the script's own.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import joblib
from distributed import Client, LocalCluster

from parallel_hpo import ConfigLoader
from tests.processes import mains


def local_cluster() -> LocalCluster:
    """Return a cluster whose one worker is a process on this script's terminal."""
    return LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)


def main() -> int:
    config, address, name = sys.argv[1:]
    hpo = ConfigLoader(config).hpo
    assert hpo is not None
    with ExitStack() as stack:
        where = address if address != "local" else stack.enter_context(local_cluster())
        client = stack.enter_context(Client(where, set_as_default=False))
        stack.enter_context(joblib.parallel_config(backend="dask", client=client))
        return int(hpo.optimize(getattr(mains, name)).exit_code)


if __name__ == "__main__":
    sys.exit(main())

"""A user's script on a Dask cluster, as joblib's users write it; its arguments: CONFIG, ADDRESS and MAIN."""

from __future__ import annotations

import sys

import joblib
from distributed import Client

from parallel_hpo import ConfigLoader
from tests.processes import mains


def main() -> int:
    config, address, name = sys.argv[1:]
    hpo = ConfigLoader(config).hpo
    assert hpo is not None
    client = Client(address, set_as_default=False)
    with client, joblib.parallel_config(backend="dask", client=client):
        return int(hpo.optimize(getattr(mains, name)).exit_code)


if __name__ == "__main__":
    sys.exit(main())

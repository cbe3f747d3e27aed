"""One `optimize`, as a user's script calls it: drive.py CONFIG MAIN [SWEEP to resume]."""

from __future__ import annotations

import sys

from parallel_hpo import ConfigLoader
from scripts.benchmarks import mains

config, name, *resume = sys.argv[1:]
hpo = ConfigLoader(config).hpo
assert hpo is not None
mains.note("optimize")
result = hpo.optimize(getattr(mains, name), resume=resume[0] if resume else None)
mains.note("returned")
print(result.sweep_id)
sys.exit(result.exit_code)

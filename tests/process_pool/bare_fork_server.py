"""A fork server that doesn't import W&B's client, and so is there in a fifth of the time.

For tests that try how processes live and die, whatever they have imported.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from parallel_hpo.worker import forkserver
from parallel_hpo.worker.preload import Imports

if __name__ == "__main__":
    sys.argv[2] = replace(Imports.from_argument(sys.argv[2]), ours=()).to_argument()
    forkserver.main()

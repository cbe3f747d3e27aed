"""A fork server that doesn't import W&B's client, and so starts in a fifth of the time.

For tests of how processes live and die, whatever they have imported.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.worker import forkserver
from parallel_hpo.worker.preload import preload

if __name__ == "__main__":
    forkserver.main(lambda order: preload(replace(order, ours=())))

"""A plain loop that calls a `main` without a sweep: bare.py MAIN TIMES."""

from __future__ import annotations

import sys

from scripts.benchmarks import mains

name, times = sys.argv[1:]
main = getattr(mains, name)
for _ in range(int(times)):
    main()

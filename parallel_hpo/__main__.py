"""`python -m parallel_hpo` is `parallel-hpo`."""

from __future__ import annotations

from parallel_hpo.cli import main

if __name__ == "__main__":
    main()

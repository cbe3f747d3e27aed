"""Another process that uses a device: holds 64 MB on it until its input ends."""

from __future__ import annotations

import sys

from scripts.gpu_rows.cuda import Cuda


def main() -> None:
    """Print `here` once the memory is held."""
    cuda = Cuda()
    cuda.open()
    cuda.hold(64)
    print("here", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

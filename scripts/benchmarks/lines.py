"""The speed of output into a worker's log and, prefixed, to stderr: lines.py LINES. Prints the seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from parallel_hpo.core.notices import OutputLine
from parallel_hpo.core.types import Slot
from parallel_hpo.display import Terminal
from parallel_hpo.processes.output import OutputPump

LINE = "epoch 17 loss 0.123456 accuracy 0.987654 learning rate 0.0005, 1234 examples per second"


def main(lines: int) -> None:
    """Measure the time for a child's output of a number of lines."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        reader, writer = os.pipe()
        began = time.monotonic()
        with Terminal(nowhere) as terminal:
            pump = OutputPump(Path(folder), lambda slot, text: terminal(OutputLine(slot, text)))
            pump.start()
            pump.add(reader, Slot(0))
            printing = f"for _ in range({lines}): print({LINE!r})"
            subprocess.run([sys.executable, "-c", printing], stdout=writer, check=True)
            os.close(writer)
            pump.close()
        took_s = time.monotonic() - began
        kept = sum(path.read_bytes().count(b"\n") for path in Path(folder).rglob("output.log"))
    print(json.dumps({"took_s": took_s, "kept": kept}))


if __name__ == "__main__":
    main(int(sys.argv[1]))

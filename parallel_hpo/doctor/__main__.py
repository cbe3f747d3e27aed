"""`python -m parallel_hpo.doctor`: examines a machine of a cluster, started by `doctor CONFIG --machines`."""

from __future__ import annotations

import os
import sys
from typing import Final

from parallel_hpo.core.errors import ParallelHPOError
from parallel_hpo.doctor.examine import examine_there
from parallel_hpo.doctor.findings import QUESTION, Finding, bad, from_text, to_line

EXIT_CODE: Final = 1
"""Exit code after findings; not 0, since engines pass on the output of failed nodes only."""


def main() -> int:
    """Print the findings as one line."""
    asked = os.environ.pop(QUESTION, "")
    if not asked:
        print("error: start `parallel-hpo doctor CONFIG --machines` instead", file=sys.stderr)
        return 2
    findings: list[Finding] = []
    try:
        findings.extend(examine_there(from_text(asked), os.environ))
    except ParallelHPOError as error:
        findings.append(bad("examination", str(error), "see this error"))
    print("\n" + to_line(findings), flush=True)
    return EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())

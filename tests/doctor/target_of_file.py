"""Prints the findings on a file's `main` as JSON: `python target_of_file.py FILE SECTION`, in a fork."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.doctor.examine import examine_target

if __name__ == "__main__":
    file, section = sys.argv[1:]
    *_, last = examine_target(HpoSection.model_validate_json(section), Target(file, "main"), os.environ)
    print(json.dumps(asdict(last)))

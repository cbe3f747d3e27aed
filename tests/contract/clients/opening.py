"""Creates a sweep by `wandb.sweep`, or joins one, and tells where it is and of what it is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from parallel_hpo.client.base import SweepRequest
from parallel_hpo.client.calls import open_sweep

print(json.dumps(asdict(open_sweep(SweepRequest(**json.loads(os.environ["ORDER"]))))))

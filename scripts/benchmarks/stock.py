"""One stock agent in a process of its own: stock.py MAIN SWEEP COUNT."""

from __future__ import annotations

import sys

import wandb

from scripts.benchmarks import mains

name, sweep, count = sys.argv[1:]
wandb.agent(sweep, function=getattr(mains, name), count=int(count))

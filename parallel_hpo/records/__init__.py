"""What is on the disk of a sweep: its ledger and its folders."""

from __future__ import annotations

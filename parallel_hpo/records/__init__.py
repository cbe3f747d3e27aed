"""The files of a sweep on disk: its ledger and its folders."""

from __future__ import annotations

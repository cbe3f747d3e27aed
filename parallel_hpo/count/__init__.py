"""Pure rules of counting: how a count is split, what may go on, and what a pool of machines decides."""

from __future__ import annotations

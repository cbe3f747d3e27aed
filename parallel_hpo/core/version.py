"""Which version this is: the one place that says so. The build has it from here too."""

from __future__ import annotations

__version__ = "0.1.0"

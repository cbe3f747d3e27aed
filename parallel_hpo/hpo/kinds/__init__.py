"""One module for each kind of HPO, named like the kind; `configuration` finds them."""

from __future__ import annotations

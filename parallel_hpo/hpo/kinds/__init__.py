"""One module for each kind of HPO, named like the kind; `registry` finds them."""

from __future__ import annotations

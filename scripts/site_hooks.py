"""Hooks for the mkdocs build; mkdocs.yml names this file."""

from __future__ import annotations

import re
from typing import Any, Final

OUTSIDE: Final = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
"""A link to a file outside docs/, which is in the repository but not on the site."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page without links out of docs/; their texts name the files."""
    return OUTSIDE.sub(r"\1", markdown)

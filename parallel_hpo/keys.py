"""Keys of the embedded sweep server: one master key, and keys derived from it for workers.

A worker key is `<label>-<hex HMAC-SHA256(master, label)>`, so the server can tell
whose a request is without storing anything. Both sides derive: `backend` to hand
keys out, `server` to check them. Imports nothing of the package.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

_LABEL: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_MASTER_BYTES: Final = 20  # 40 hex digits: wandb's client refuses keys shorter than 40 characters


def new_master_key() -> str:
    """Return a fresh random master key of 40 hexadecimal digits."""
    return secrets.token_hex(_MASTER_BYTES)


def worker_key(master: str, label: str) -> str:
    """Return the key of the worker called `label` (1 to 64 of A-Z a-z 0-9 _); ValueError for other labels."""
    if not _LABEL.fullmatch(label):
        raise ValueError(f"worker label {label!r}: 1 to 64 letters, digits or underscores")
    return f"{label}-{_mac(master, label)}"


def is_master_key(master: str, key: str) -> bool:
    """Say, in constant time, whether `key` is the master key itself."""
    return hmac.compare_digest(master.encode(), key.encode(errors="replace"))


def label_of(master: str, key: str) -> str | None:
    """Return the label that `key` was derived for from `master`, or None where it was not."""
    label, dash, mac = key.partition("-")
    if not dash or not _LABEL.fullmatch(label):
        return None
    genuine = hmac.compare_digest(_mac(master, label).encode(), mac.encode(errors="replace"))
    return label if genuine else None


def _mac(master: str, label: str) -> str:
    return hmac.new(master.encode(), label.encode(), hashlib.sha256).hexdigest()

"""What user code raised or returned, in one line of text that is safe to print and to send."""

from __future__ import annotations


def error_in_words(error: BaseException) -> str:
    """Return an exception in one line, also one that can't be printed."""
    text = in_one_line(error)
    name = type(error).__name__
    return f"{name}: {text}"[:500] if text else name


def in_one_line(value: object) -> str:
    """Return a value's text with its line ends as spaces, or say that it has none."""
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001 - user code's __str__ may raise anything
        return "(its text can't be printed)"

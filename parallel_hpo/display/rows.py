"""The rows of the live display, one per worker. Notices update the workers; narrow terminals omit columns.

w0  gpu 0  ab12cd34  12/40  30%  loss=0.1234  12.3 s  1.2 GB
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import MemoryUsed, Notice, RunBegan, RunOver, RunProgressed, WorkerChanged
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.display.text import duration

GONE: Final = (SlotState.STOPPED, SlotState.EXITED, SlotState.FATAL)
"""States of a slot without a worker that also gets none."""

COLUMNS: Final = ("worker", "device", "run", "step", "percent", "metric", "seconds", "memory")
DROPPED_FIRST: Final = ("memory", "percent", "device", "seconds", "run")
"""Columns that are omitted if the terminal is too narrow, in this order."""
STYLES: Final = {"worker": "cyan", "percent": "bold", "metric": "green", "memory": "dim", "device": "dim"}
RIGHT: Final = ("step", "percent", "seconds", "memory")
"""Right-aligned columns."""
NARROW: Final = 60
"""Terminal width below which columns are separated by one space instead of two."""
_WORDS: Final = {
    SlotState.STARTING: "starting",
    SlotState.RUNNING: "waits",
    SlotState.BACKOFF: "restarts",
    SlotState.STOPPING: "leaves",
}
_DEVICE_CHARS: Final = 12
"""Number of shown characters of a UUID, enough to distinguish devices."""

Row = Mapping[str, str]
NameOf = Callable[[Slot], str]
"""Returns the display name of a slot's worker."""


def rows_of(workers: Workers, now: float, name_of: NameOf, *, width: int, most: int) -> list[Text]:
    """Return a line of at most `width` cells for each worker, at most `most` lines.

    If there are more workers, those with a run come first, and the last line counts the rest.
    """
    slots = sorted(workers)
    left = len(slots) - most
    if left > 0:
        shown = sorted(slots, key=lambda slot: (workers[slot].run_id is None, slot))[: max(0, most - 1)]
        slots = sorted(shown)
    rows = [_row(name_of(slot), workers[slot], now) for slot in slots]
    gap = " " if width < NARROW else "  "
    names = _fitting(rows, width, gap)
    widths = {name: max(cell_len(row[name]) for row in rows) for name in names} if rows else {}
    lines = [_cut(_line(row, widths, gap), width) for row in rows]
    if left > 0 and most > 0:
        lines.append(_cut(Text(f"… and {left + 1} more workers", style="dim"), width))
    return lines


def _row(name: str, seen: WorkerSeen, now: float) -> Row:
    """Return a worker's cells; without a run, these are its state and memory only."""
    memory = "" if seen.memory_mb is None else _memory(seen.memory_mb)
    row = dict.fromkeys(COLUMNS, "") | {
        "worker": name,
        "memory": memory,
        "device": _device(seen.device),
    }
    if seen.run_id is None:
        return row | {"run": _WORDS.get(seen.state, str(seen.state))}
    row |= {"run": str(seen.run_id), "seconds": duration(max(0.0, now - seen.began_s))}
    progress = seen.progress
    if progress is None:
        return row
    if progress.done is not None and progress.total:
        row["step"] = f"{progress.done:.6g}/{progress.total:.6g}"
        row["percent"] = f"{100 * progress.done / progress.total:.0f}%"
    else:
        row["step"] = f"step {progress.step}"
    row["metric"] = "" if progress.value is None else f"{progress.name}={progress.value:.4g}"
    return row


def _fitting(rows: Sequence[Row], width: int, gap: str) -> list[str]:
    """Return the non-empty columns that fit into the width."""
    names = [name for name in COLUMNS if any(row[name] for row in rows)]
    for missed in DROPPED_FIRST:
        needed = sum(max(cell_len(row[name]) for row in rows) for name in names) + len(gap) * (len(names) - 1)
        if needed <= width:
            break
        names = [name for name in names if name != missed]
    return names


def _line(row: Row, widths: Mapping[str, int], gap: str) -> Text:
    parts = []
    for name, column in widths.items():
        room = " " * (column - cell_len(row[name]))
        text = room + row[name] if name in RIGHT else row[name] + room
        parts.append(Text(text, style=STYLES.get(name, "")))
    line = Text(gap).join(parts)
    line.rstrip()
    return line


def _cut(line: Text, width: int) -> Text:
    line.truncate(max(1, width), overflow="ellipsis")
    return line


def _device(device: str) -> str:
    text = f"device {device}" if device.isdigit() else device
    return text if len(text) <= _DEVICE_CHARS else text[: _DEVICE_CHARS - 1] + "…"


def _memory(used_mb: float) -> str:
    return f"{used_mb / 1024:.1f} GB" if used_mb >= 1024 else f"{used_mb:.0f} MB"


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A slot's worker; `began_s` is on the clock of `now`."""

    state: SlotState = SlotState.STARTING
    device: str = ""
    run_id: RunId | None = None
    """The current run, or None."""
    began_s: float = 0.0
    progress: Progress | None = None
    memory_mb: float | None = None


Workers = Mapping[Slot, WorkerSeen]


def advance_workers(workers: Workers, notice: Notice, now: float) -> Workers:
    """Return the workers after a notice at `now` (seconds)."""
    match notice:
        case WorkerChanged(slot=slot, state=state) if state in GONE:
            return {known: seen for known, seen in workers.items() if known != slot}
        case WorkerChanged(slot=slot, state=state):
            seen = workers.get(slot, WorkerSeen())
            memory_mb = seen.memory_mb if state is not SlotState.STARTING else None
            return _with(workers, slot, replace(seen, state=state, memory_mb=memory_mb))
        case RunBegan():
            seen = replace(workers.get(notice.slot, WorkerSeen()), progress=None, began_s=now)
            return _with(workers, notice.slot, replace(seen, device=notice.device, run_id=notice.run_id))
        case RunOver(slot=slot) if slot in workers:
            return _with(workers, slot, replace(workers[slot], run_id=None, progress=None))
        case MemoryUsed(slot=slot, used_mb=used_mb) if slot in workers:
            return _with(workers, slot, replace(workers[slot], memory_mb=used_mb))
        case RunProgressed(slot=slot, progress=progress) if _is_on(workers, slot, progress.run_id):
            return _with(workers, slot, replace(workers[slot], progress=progress))
        case _:
            return workers


def _is_on(workers: Workers, slot: Slot, run_id: RunId) -> bool:
    """Return whether a run is the slot's current one, and not an earlier one with a late notice."""
    return slot in workers and workers[slot].run_id == run_id


def _with(workers: Workers, slot: Slot, seen: WorkerSeen) -> Workers:
    return {**workers, slot: seen}

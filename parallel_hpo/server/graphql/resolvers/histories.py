"""A run's lines, as W&B's clients ask for them: tails, samples, ranges of steps, some keys only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.core.values import strict
from parallel_hpo.server.graphql.resolvers.context import Info, Page, Resolver, page, reading
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.lines import StepRange, Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import LogLine, RefusedError, read_line, read_object, sample

_DEFAULT_SAMPLES = 500
_MOST_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """Which rows and keys of a history a client wants."""

    keys: list[str]
    steps: StepRange
    samples: int


def _history(
    run: Run,
    info: Info,
    samples: int | None = None,
    minStep: int | None = None,
    maxStep: int | None = None,
) -> list[str]:
    """Return history lines: all of a range of steps, or a spread of `samples` over the whole."""
    if minStep is None and maxStep is None:
        return _spread(run, info, Stream.HISTORY, run.history_lines, samples)
    return list(lines.texts(reading(info), run.id, Stream.HISTORY, StepRange(minStep, maxStep)))


def _events(run: Run, info: Info, samples: int | None = None) -> list[str]:
    return _spread(run, info, Stream.EVENTS, run.event_lines, samples)


def _spread(run: Run, info: Info, stream: Stream, total: int, samples: int | None) -> list[str]:
    count = min(samples if samples is not None and samples > 0 else _DEFAULT_SAMPLES, _MOST_SAMPLES)
    return list(lines.spread(reading(info), run.id, stream, count, total))


def _tail(stream: Stream) -> Any:
    def resolve(run: Run, info: Info) -> str:
        last = lines.last(reading(info), run.id, stream)
        return json.dumps([] if last is None else [last])

    return resolve


def _sampled_history(run: Run, info: Info, specs: list[str]) -> list[list[dict[str, Any]]]:
    return [_rows(run, info, _spec(text)) for text in specs]


def _spec(text: str) -> SampleSpec:
    raw = read_object(text, "a history spec")
    keys = raw.get("keys") or []
    first, end, samples = raw.get("minStep"), raw.get("maxStep"), raw.get("samples", _DEFAULT_SAMPLES)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("a history spec's keys must be a list of names")
    if not all(value is None or isinstance(value, int) for value in (first, end, samples)):
        raise RefusedError("a history spec's minStep, maxStep and samples must be integers")
    # wandb client: the last step asked for is maxStep itself, unlike in `history(maxStep:)`.
    return SampleSpec(
        list(dict.fromkeys(keys)), StepRange(first, None if end is None else end + 1), samples or 0
    )


def _rows(run: Run, info: Info, spec: SampleSpec) -> list[dict[str, Any]]:
    texts = lines.texts(reading(info), run.id, Stream.HISTORY, spec.steps)
    rows = [row for row in (sample(json.loads(text), spec.keys) for text in texts) if row is not None]
    if 0 < spec.samples < len(rows):
        rows = [rows[round(i * (len(rows) - 1) / max(spec.samples - 1, 1))] for i in range(spec.samples)]
    return [strict(row) for row in rows]


def _parquet_history(run: Run, info: Info, liveKeys: list[str] | None = None) -> dict[str, Any]:
    """Return no files, and the rows that are not in files: all of them."""
    spec = SampleSpec(liveKeys or [], StepRange(), 0)
    return {"parquetUrls": [], "liveData": _rows(run, info, spec)}


def _log_lines(
    run: Run,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    useImprovedPagination: bool | None = None,
) -> Page[LogLine]:
    """Return console lines: a page, or the `last` ones."""
    texts = list(lines.texts(reading(info), run.id, Stream.CONSOLE))
    numbered = [read_line(number, text) for number, text in enumerate(texts)]
    if last is not None:
        return page(numbered[max(0, len(numbered) - max(last, 0)) :], None, None)
    return page(numbered, after, first)


RUN: Final[dict[str, Resolver]] = {
    "history": _history,
    "events": _events,
    "historyTail": _tail(Stream.HISTORY),
    "eventsTail": _tail(Stream.EVENTS),
    "historyKeys": lambda run, _info: json.loads(run.history_keys),
    "sampledHistory": _sampled_history,
    "parquetHistory": _parquet_history,
    "logLines": _log_lines,
}

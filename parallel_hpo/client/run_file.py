"""Writes a run of a parallel_hpo server as the wandb client's file `run-<id>.wandb`, for `wandb sync`.

wandb client: LevelDB's log format with its own header and zlib's checksum; `wandb sync` also reads files of
older clients. The records are the client's protocol buffers, imported inside functions in child processes.

    header │ block of 32 KiB: [ checksum │ length │ kind │ a record or a part of one ] … │ block …
    records: header ─ run ─ metrics … ─ history … ─ system events … ─ console … ─ summary ─ files ─ artifacts
    ─ exit
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

from parallel_hpo.core.types import SweepPath


@dataclass(frozen=True, slots=True)
class ArtifactCopy:
    """A version of an artifact that the run logs."""

    name: str
    """Without the version, which the destination sets."""
    type: str
    digest: str
    client_id: str
    """Id by which tables within a run's history refer to it."""
    description: str
    metadata: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    ttl_s: int | None
    manifest: Mapping[str, Any]
    """As the client sent it."""
    files: Mapping[str, Path]
    """Local path of each of its files, references excluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCopy:
    """A run without its lines."""

    path: SweepPath
    """Path of its sweep at the destination."""
    run_id: str
    display_name: str
    notes: str
    group: str
    job_type: str
    host: str
    repo: str
    commit: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    began_at: float
    """Start in seconds since the epoch, from which its events' `_runtime` counts."""
    exit_code: int | None
    """None: unknown."""
    files: tuple[str, ...]
    artifacts: tuple[ArtifactCopy, ...]


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """A line that a run printed; `at` is None if unknown."""

    text: str
    at: datetime | None
    to_stderr: bool


@dataclass(frozen=True, slots=True)
class RunLines:
    """A run's lines; each iterable is read once."""

    history: Iterable[str]
    """JSON, as its client sent it."""
    events: Iterable[str]
    console: Iterable[ConsoleLine]


HEADER: Final = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK_BYTES: Final = 32768
_FRAME: Final = struct.Struct("<IHB")


class _Kind(IntEnum):
    FULL = 1
    FIRST = 2
    MIDDLE = 3
    LAST = 4


class TransactionLog:
    """Writes records to an empty file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = file.write(HEADER)

    def append(self, record: bytes) -> None:
        """Write one more record."""
        is_first = True
        for piece, is_last in self._pieces(record):
            kind = _KINDS[is_first, is_last]
            checksum = zlib.crc32(piece, zlib.crc32(bytes([kind])))
            self._write(_FRAME.pack(checksum, len(piece), kind) + piece)
            is_first = False

    def _pieces(self, record: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield the parts of a record for each block, and whether a part is the last."""
        left, is_last = record, False
        while not is_last:
            room = self._room()
            piece, left = left[:room], left[room:]
            is_last = not left
            yield piece, is_last

    def _room(self) -> int:
        """Return the maximum size of the next piece; pads a block's rest if it is too small for a frame."""
        free = _BLOCK_BYTES - self._at % _BLOCK_BYTES
        if free < _FRAME.size:
            self._write(bytes(free))
            free = _BLOCK_BYTES
        return free - _FRAME.size

    def _write(self, data: bytes) -> None:
        self._at += self._file.write(data)


_KINDS: Final = {
    (True, True): _Kind.FULL,
    (True, False): _Kind.FIRST,
    (False, False): _Kind.MIDDLE,
    (False, True): _Kind.LAST,
}


_NS: Final = 1_000_000_000
_SYSTEM: Final = "system."
"""wandb client: prefix of system metrics in the stream of events, but not in the file."""
_OLDEST_READER: Final = "0.0.1"


def write_run_file(folder: Path, copy: RunCopy, lines: RunLines) -> None:
    """Write `run-<id>.wandb` into a run's folder, beside its `files`."""
    import wandb
    from wandb.proto import wandb_internal_pb2 as records

    with (folder / f"run-{copy.run_id}.wandb").open("wb") as file:
        log = TransactionLog(file)
        for number, record in enumerate(_records(records, wandb.__version__, copy, lines), 1):
            record.num = number
            log.append(record.SerializeToString())


def _records(records: Any, version: str, copy: RunCopy, lines: RunLines) -> Iterator[Any]:
    new: Callable[[], Any] = records.Record
    yield _header(new(), version)
    yield _run(new(), copy)
    yield from (_metric(new(), metric) for metric in _metrics(copy.config))
    yield from (_history(new(), json.loads(line)) for line in lines.history)
    yield from (_events(new(), json.loads(line)) for line in lines.events)
    yield from (_console(new(), records.OutputRawRecord, line) for line in lines.console)
    yield _summary(new(), copy.summary)
    yield _files(new(), records.FilesItem, copy.files)
    yield from (_artifact(new(), copy, artifact) for artifact in copy.artifacts)
    if copy.exit_code is not None:
        record = new()
        record.exit.exit_code = copy.exit_code
        yield record


def _nanoseconds(seconds: float) -> int:
    """Return a time in nanoseconds; a product of floats would lose the last digits."""
    return int(Decimal(repr(seconds)) * _NS)


def _header(record: Any, version: str) -> Any:
    record.header.version_info.producer = version
    record.header.version_info.min_consumer = _OLDEST_READER
    return record


def _run(record: Any, copy: RunCopy) -> Any:
    run = record.run
    run.entity, run.project, run.sweep_id = copy.path.entity, copy.path.project, copy.path.sweep_id
    run.run_id, run.display_name, run.notes = copy.run_id, copy.display_name, copy.notes
    run.run_group, run.job_type, run.host = copy.group, copy.job_type, copy.host
    run.git.remote_url, run.git.commit = copy.repo, copy.commit
    run.tags.extend(copy.tags)
    run.start_time.FromNanoseconds(_nanoseconds(copy.began_at))
    for key, value in copy.config.items():
        item = run.config.update.add()
        item.key, item.value_json = key, json.dumps(value)
    return record


def _metrics(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the run's metric definitions, each with its step metric by name.

    wandb client: the config has them by the numbers of the record's fields, and a step metric by its index.
    """
    defined = config.get("_wandb", {}).get("m", [])
    for metric in defined:
        index = metric.get("5")
        yield metric | ({"4": defined[index - 1]["1"]} if index and index <= len(defined) else {})


def _metric(record: Any, defined: Mapping[str, Any]) -> Any:
    metric = record.metric
    metric.SetInParent()
    fields = metric.DESCRIPTOR.fields_by_number
    for number in (1, 2, 4, 8):  # names, and the goal
        if str(number) in defined:
            setattr(metric, fields[number].name, defined[str(number)])
    for number in (6, 7):  # options, and the summary's statistics: the numbers of those that are true
        part = getattr(metric, fields[number].name)
        for true in defined.get(str(number), []):
            setattr(part, part.DESCRIPTOR.fields_by_number[true].name, True)
    return record


def _history(record: Any, row: Mapping[str, Any]) -> Any:
    if "_step" in row:
        record.history.step.num = row["_step"]
    record.history.SetInParent()  # wandb client: wandb-core panics at a record without a kind
    _put(record.history.item, row)
    return record


def _summary(record: Any, values: Mapping[str, Any]) -> Any:
    record.summary.SetInParent()
    _put(record.summary.update, values)
    return record


def _put(items: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        item = items.add()
        item.nested_key.append(key)  # a name with dots stays one name
        item.value_json = json.dumps(value)


def _events(record: Any, row: Mapping[str, Any]) -> Any:
    record.stats.timestamp.FromNanoseconds(_nanoseconds(row.get("_timestamp", 0)))
    for key, value in row.items():
        if key.startswith(_SYSTEM):
            item = record.stats.item.add()
            item.key, item.value_json = key.removeprefix(_SYSTEM), json.dumps(value)
    return record


def _console(record: Any, kind: Any, line: ConsoleLine) -> Any:
    record.output_raw.output_type = kind.STDERR if line.to_stderr else kind.STDOUT
    record.output_raw.line = f"{line.text}\n"
    if line.at is not None:
        record.output_raw.timestamp.FromDatetime(line.at.astimezone(UTC))
    return record


def _files(record: Any, kind: Any, names: Iterable[str]) -> Any:
    record.files.SetInParent()
    for name in names:
        item = record.files.files.add()
        item.path, item.policy = name, kind.END
    return record


def _artifact(record: Any, copy: RunCopy, artifact: ArtifactCopy) -> Any:
    target = record.artifact
    target.entity, target.project, target.run_id = copy.path.entity, copy.path.project, copy.run_id
    target.type, target.name, target.digest = artifact.type, artifact.name, artifact.digest
    target.description, target.metadata = artifact.description, artifact.metadata
    target.client_id = artifact.client_id
    target.aliases.extend(artifact.aliases)
    target.tags.extend(artifact.tags)
    target.finalize = True
    if artifact.ttl_s is not None:
        target.ttl_duration_seconds = artifact.ttl_s
    _manifest(target.manifest, artifact)
    return record


def _manifest(target: Any, artifact: ArtifactCopy) -> None:
    manifest = artifact.manifest
    target.version = manifest.get("version", 1)
    target.storage_policy = manifest.get("storagePolicy", "wandb-storage-policy-v1")
    for key, value in manifest.get("storagePolicyConfig", {}).items():
        item = target.storage_policy_config.add()
        item.key, item.value_json = key, json.dumps(value)
    for path, entry in manifest["contents"].items():
        file = target.contents.add()
        file.path, file.digest, file.size = path, entry["digest"], entry.get("size") or 0
        file.ref = entry.get("ref") or ""
        file.skip_cache = True
        if path in artifact.files:
            file.local_path = str(artifact.files[path])
        for key, value in entry.get("extra", {}).items():
            item = file.extra.add()
            item.key, item.value_json = key, json.dumps(value)

"""The rows: promises about devices, and a test of each."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.devices.sharing import MARGIN
from scripts.gpu_rows.stage import SessionSetup, Swept

PACKED: Final = 0.25
"""Fraction of a device's memory that a run of the row `packing` holds: three fit, with a margin."""
OWN_MODULE: Final = "import ctypes\nctypes.CDLL('libcuda.so.1')\n"
"""Source of a module that stands for a framework for GPUs if torch is missing."""


@dataclass(frozen=True)
class Result:
    """The result of a row; `whole` is None if it could not be tested here."""

    whole: bool | None
    seen: str


@dataclass(frozen=True)
class Row:
    """A promise and its test."""

    name: str
    promise: str
    check: Callable[[SessionSetup], Result]


def masks(stage: SessionSetup) -> Result:
    """By index and by UUID, each worker sees one device, the one of its token."""
    by_name = {"index": stage.tokens, "UUID": [device.uuid for device in stage.devices]}
    seen = []
    for kind, tokens in by_name.items():
        swept = stage.sweep("look", count=2 * len(tokens), mask=",".join(tokens))
        meant = {token: _bare(device.uuid) for token, device in zip(tokens, stage.devices, strict=True)}
        wrong = [line for line in swept.lines if line["uuids"] != [meant[line["device"]]]]
        used = {line["device"] for line in swept.lines}
        if wrong or not used or swept.finished != 2 * len(tokens):
            return Result(False, f"by {kind}: {swept.last_words}; {_short(wrong)}")
        seen.append(f"by {kind} {len(used)} of {len(tokens)}")
    return Result(True, f"devices seen, one by each worker: {', '.join(seen)}")


def sharing(stage: SessionSetup) -> Result:
    """Two workers on one device run at the same time."""
    swept = stage.sweep("meet", count=2, devices=stage.tokens[:1], workers_per_device=2)
    together = any(line["others"] for line in swept.lines)
    same = len({uuid for line in swept.lines for uuid in line["uuids"]}) == 1
    seen = f"{swept.finished} of 2 runs finished, at the same time, with memory held by each"
    return Result(True, seen) if together and same and swept.finished == 2 else _unlike(swept)


def handover(stage: SessionSetup) -> Result:
    """After the kill of a worker with half of the memory, its run's next attempt has all of it again."""
    swept = stage.sweep("die_once", count=1, part=0.5, devices=stage.tokens[:1])
    free = {line["attempt"]: line["free_mb"] for line in swept.lines}
    if set(free) != {1, 2} or swept.finished != 1:
        return _unlike(swept)
    seen = f"{free[1]:.0f} MB free before, half of the memory held, SIGKILL, {free[2]:.0f} MB free after"
    return Result(free[2] > 0.95 * free[1], seen)


def out_of_memory(stage: SessionSetup) -> Result:
    """After each run without enough memory, the next one gets a fresh process."""
    swept = stage.sweep("want_too_much", count=3, devices=stage.tokens[:1])
    reasons = {run["reason"] for run in swept.summary.get("runs", ())}
    pids = {line["pid"] for line in swept.lines}
    seen = f"{len(pids)} processes for {len(swept.lines)} failed runs; {_short(sorted(reasons))}"
    return Result(len(pids) == 3 and all("out of memory" in reason for reason in reasons), seen)


def quarantine(stage: SessionSetup) -> Result:
    """A device on which runs fail gets no more runs, and the others continue."""
    if len(stage.devices) < 2:
        return Result(None, "needs two devices")
    bad, good = stage.tokens[:2]
    swept = stage.sweep("fail_on_faulty", count=16, faulty=bad, devices=[bad, good])
    on_bad = sum(1 for line in swept.lines if line["device"] == bad)
    held = f"device {bad} gets no runs" in swept.said
    seen = f"device {bad} got {on_bad} of 16 runs, then none; {swept.finished} finished on device {good}"
    return Result(True, seen) if held and swept.finished == 16 - on_bad else _unlike(swept)


def packing(stage: SessionSetup) -> Result:
    """As many workers share a device as fit; a run without enough memory is retried alone."""
    swept = stage.sweep(
        "pack",
        count=16,
        part=PACKED,
        devices=stage.tokens[:1],
        workers_per_device="auto",
        workers=8,
        retries=0,
    )
    told = re.search(r"takes (\d+) workers at a time: its first runs held (\d+) of (\d+) MB", swept.said)
    if told is None or swept.finished != 16:
        return _unlike(swept)
    fits, held_mb, room_mb = map(int, told.groups())
    first = [line["others"] for line in swept.lines[:2]]
    again = [line["others"] for line in swept.lines if line["attempt"] == 2]
    most = 1 + max(len(line["others"]) for line in swept.lines)
    alone = first == [[], []] and again == [[]]
    fit = 1 < most <= fits == int((1 - MARGIN) * room_mb / held_mb)
    seen = f"{held_mb} of {room_mb} MB measured, {fits} fit, {most} at a time, who fell short alone again"
    return Result(alone and fit, seen)


def preload(stage: SessionSetup) -> Result:
    """A preloaded framework has no context in the fork server, and works in its forks."""
    has_torch = importlib.util.find_spec("torch") is not None
    module, main = ("torch", "compute_with_torch") if has_torch else ("loads_the_driver", "look")
    if not has_torch:
        (stage.folder / f"{module}.py").write_text(OWN_MODULE)
    swept = stage.sweep(main, count=4, devices=stage.tokens[:1], preload=[module], recycle_after=1)
    pids = {line["pid"] for line in swept.lines}
    clean = not any(line["fork_server_has_context"] for line in swept.lines)
    seen = f"{module} preloaded, no context in the fork server; {swept.finished} of 4 runs computed in forks"
    return Result(True, seen) if clean and swept.finished == len(pids) == 4 else _unlike(swept)


def strangers(stage: SessionSetup) -> Result:
    """A device that another process uses is skipped."""
    with stage.stranger(stage.devices[0]) as pid:
        said = stage.dry_run()
    words = f"device {stage.tokens[0]} is left out: process {pid} computes on it"
    return Result(words in said, words if words in said else _short(said.splitlines()[-3:]))


def doctor(stage: SessionSetup) -> Result:
    """The doctor has a line for the driver and for each device, and finds no failures."""
    findings = json.loads(stage.command("doctor", "--json").stdout)["findings"]
    by_subject = {finding["subject"]: finding for finding in findings}
    lines = [by_subject.get(f"device {each.device.index}") for each in stage.devices if each.device]
    whole = "driver" in by_subject and all(line and line["level"] != "bad" for line in lines)
    return Result(whole, f"{by_subject.get('driver', {}).get('text', 'no word of the driver')}")


def energy(stage: SessionSetup) -> Result:
    """A run's energy comes from the device's own counter."""
    if stage.library.energy_j(stage.devices[0].uuid) is None:
        return Result(None, "the device has no counter of energy")
    before = stage.library.energy_j(stage.devices[0].uuid) or 0.0
    swept = stage.sweep("work", count=2, devices=stage.tokens[:1])
    after = stage.library.energy_j(stage.devices[0].uuid) or 0.0
    used = swept.summary.get("consumption", {})
    hours, kwh = used.get("device_hours"), used.get("device_kwh")
    if not hours or not kwh:
        return _unlike(swept)
    seen = f"{kwh * 1000:.2f} Wh in {hours * 3600:.1f} s of two runs, {kwh / hours * 1000:.0f} W"
    return Result(0 < kwh * 3.6e6 <= after - before, seen)


def mig(stage: SessionSetup) -> Result:
    """Each worker sees only its own instance."""
    instances = [device for device in stage.devices if device.is_instance]
    if not instances:
        return Result(None, "no device is partitioned by MIG")
    swept = stage.sweep("look", count=2 * len(instances), devices=[each.token for each in instances])
    meant = {each.token: [_bare(each.uuid)] for each in instances}
    alone = all(line["uuids"] == meant[line["device"]] for line in swept.lines)
    used = {line["device"] for line in swept.lines}
    seen = f"{len(used)} of {len(instances)} instances, one by each worker"
    return Result(True, seen) if alone and used and swept.finished == 2 * len(instances) else _unlike(swept)


def _bare(uuid: str) -> str:
    """Return a UUID in CUDA's form."""
    return uuid.partition("-")[2]


def _unlike(swept: Swept) -> Result:
    return Result(False, f"{swept.last_words}; {_short(swept.lines)}")


def _short(found: Sequence[object]) -> str:
    text = "; ".join(map(str, found))
    return text if len(text) <= 300 else text[:299] + "…"


ROWS: Final = (
    Row("masks", "each worker sees its one device, by index and by UUID", masks),
    Row("sharing", "workers share a device", sharing),
    Row("handover", "after a SIGKILL a device is handed on with its memory free", handover),
    Row("out-of-memory", "out of memory: the next run has a fresh process", out_of_memory),
    Row("quarantine", "a device on which runs fail is left alone", quarantine),
    Row("packing", "as many workers share a device as fit; who falls short is run again alone", packing),
    Row("preload", "a framework is preloaded without a CUDA context", preload),
    Row("strangers", "a device on which somebody else computes is left out", strangers),
    Row("doctor", "the doctor knows driver and devices", doctor),
    Row("energy", "energy by the device's counter", energy),
    Row("mig", "each worker has a MIG instance of its own", mig),
)
BY_NAME: Final = {row.name: row for row in ROWS}

"""Small, large, ugly, empty, failed and single-run sweeps for tests of pages."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import insert, select, update

from parallel_hpo.server.artifacts.contents import blob_of
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.store import artifact_collections, artifacts, files, projects, tables
from parallel_hpo.server.store.artifacts import Entry
from tests.server.server_logic import Services

LONG_METRIC: Final = "validation/segmentation/mean_intersection_over_union_of_all_classes"
LONG_NAME: Final = "resnet50-imagenet21k-cosine-warmup-labelsmoothing-0.1-mixup"
SMALL: Final[dict[str, Any]] = {
    "name": "Learning rate and optimizer",
    "method": "bayes",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
        "optimizer": {"values": ["adam", "sgd", "rmsprop"]},
        "layers": {"values": [1, 2, 4, 8]},
        "dropout": {"min": 0.0, "max": 0.5},
        "epochs": {"value": 100},
    },
}
UGLY: Final[dict[str, Any]] = {
    "name": "Every augmentation, and an architecture search with a name that is far too long for a heading",
    "method": "random",
    "metric": {"name": LONG_METRIC, "goal": "maximize"},
    "parameters": {
        "augmentation": {"values": [f"policy-{number:02d}-{'x' * (number % 9)}" for number in range(30)]},
        "model.encoder.attention.number_of_heads_per_layer": {"values": [1, 2, 4, 8, 16]},
        "samples_seen": {"values": [1234567890.5, 987654321.25]},
        **{
            f"hyper_{letter}": {"min": 0.0, "max": 10.0**power}
            for power, letter in enumerate("abcdefghi", -4)
        },
    },
}

SPAN_S: Final = 7000.0
"""Time in which a sweep's runs begin, of 100 or more; fewer take less."""
WORKERS: Final = 4
CODE: Final = "import wandb\n\nwith wandb.init() as run:\n    run.log({'loss': 0.5})\n"
LINK: Final = "s3://bucket/w.bin"
"""Address of an artifact's file that was not uploaded."""
CHANGES: Final = """diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,4 +1,4 @@
 with wandb.init() as run:
-    run.log({'loss': 1})
+    run.log({'loss': 0.5})
"""


def keys_of(names: Iterator[str] | tuple[str, ...]) -> str:
    known = {name: {"typeCounts": [{"type": "number", "count": 1}]} for name in names}
    return json.dumps({"sets": [], "keys": known, "lastStep": 0})


class Scenes:
    """Fills a database with sweeps; a sweep's runs are the same each time."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def sweep(
        self,
        config: Mapping[str, Any],
        runs: int,
        *,
        state: str = "FINISHED",
        states: str = "",
        points: int = 0,
    ) -> str:
        """Create a sweep and its runs; `states`: a letter a run, repeated; `points`: lines that each logs."""
        services = self._services
        sweep = services.sweep({**config, "run_cap": max(1, runs)})
        services.set_state(sweep, state)
        dice = random.Random(zlib.crc32(json.dumps(config).encode()) + runs)
        each_s = SPAN_S / max(100, runs)
        rows = [self._run(config, sweep, place, dice, states or "f", each_s) for place in range(runs)]
        with services.world.database.write() as transaction:
            query = select(tables.sweeps.c.project_id).where(tables.sweeps.c.id == sweep)
            project = {"project_id": transaction.scalar(query)}
            for begin in range(0, runs, 500):
                transaction.execute(insert(tables.runs), [row | project for row in rows[begin : begin + 500]])
        if points:
            self._log(sweep, config["metric"]["name"], points, dice)
        return sweep

    def _run(
        self,
        config: Mapping[str, Any],
        sweep: str,
        place: int,
        dice: random.Random,
        states: str,
        each_s: float,
    ) -> dict[str, Any]:
        letter = states[place % len(states)]
        state = {"f": "finished", "x": "failed", "r": "running", "k": "killed", "c": "crashed"}[letter]
        given = {name: {"value": _drawn(space, dice)} for name, space in config["parameters"].items()}
        metric = config["metric"]
        value = _quality(given, dice) * (1 if metric["goal"] == "minimize" else -1)
        begin = self._services.clock() - SPAN_S - 200 + place * each_s
        name = LONG_NAME if "augmentation" in given and place % 5 == 0 else f"sweep-{place + 1}"
        return {
            "name": f"{sweep[-3:]}{place:05d}",
            "display_name": name,
            "state": state,
            "sweep_id": sweep,
            "sweep_index": place,
            "assigned": json.dumps(given),
            "waiting": False,
            "deliveries": 1,
            "sweep_revision": place + 1,
            "value": value if state == "finished" else None,
            "stop_requested": False,
            "exitcode": {"finished": 0, "failed": 1}.get(state),
            "host": "node-a",
            "opened_by": f"mark_{place % WORKERS}_{place % WORKERS}",
            "tags": json.dumps(["baseline"] if place % 9 == 0 else []),
            "config": json.dumps(given),
            "summary": json.dumps({metric["name"]: value} if state in ("finished", "running") else {}),
            "system_metrics": "{}",
            "history_keys": keys_of(()),
            "history_lines": 0,
            "event_lines": 0,
            "log_lines": 0,
            "created_at": begin,
            "started_at": begin,
            "heard_at": begin + WORKERS * each_s * dice.uniform(0.3, 0.95),  # before the worker's next run
        }

    def save(self, logger: str, user: str) -> None:
        """Save code, a diff and a model of a run, and use the model in another run."""
        services = self._services
        texts = {"code/train.py": CODE, "diff.patch": CHANGES, "model.bin": "x" * 2000}
        digest = base64.b64encode(hashlib.md5(CODE.encode(), usedforsecurity=False).digest()).decode()
        run, other, now = services.run(logger), services.run(user), services.clock()
        kept = {FileRef(str(run.id), name): text for name, text in texts.items()} | {blob_of(digest): CODE}
        for file_ref, text in kept.items():
            path = file_ref.path_in(services.world.files)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with services.world.database.write() as transaction:
            for name, text in texts.items():
                files.put(transaction, files.File(run.id, name, len(text), "0" * 32, now))
            project = projects.find(transaction, "local", "p")
            assert project is not None
            collection = artifact_collections.ensure(transaction, project, "network", "model", now)
            facts = {"run_id": run.id, "collection_id": collection.id, "digest": digest, "tags": "[]"}
            facts |= {"wanted_aliases": "[]", "created_at": now, "updated_at": now}
            for version in (0, 1):
                number = artifacts.create(transaction, facts)
                changes = {"state": artifacts.COMMITTED, "version": version, "size": len(CODE)}
                artifacts.change(transaction, number, changes | {"file_count": 2})
                entries = [
                    Entry("net/train.py", digest, len(CODE), None),
                    Entry("net/w.bin", digest, 9, LINK),
                ]
                artifacts.put_files(transaction, number, entries)
            artifact_collections.put_aliases(transaction, collection.id, number, ["latest", "best"])
            artifacts.use(transaction, other.id, number)

    def _log(self, sweep: str, metric: str, points: int, dice: random.Random) -> None:
        """Log curves, system metrics and console output of each run of a sweep."""
        with self._services.world.database.write() as transaction:
            found = transaction.execute(select(tables.runs).where(tables.runs.c.sweep_id == sweep)).all()
            for run in found:
                end = points // 3 if run.state != "finished" else points
                final = run.value if run.value is not None else 1.0
                history = list(_history(metric, final, end, dice, run.started_at))
                times = [{"_runtime": 15.0 * n, "_timestamp": run.started_at + 15 * n} for n in range(12)]
                events = [time | _system(n, dice) for n, time in enumerate(times)]
                console = list(_console(end, failed=run.state == "failed"))
                streams = ([*map(json.dumps, history)], [*map(json.dumps, events)], console)
                lines = [
                    {"run_id": run.id, "stream": stream, "number": number, "text": text}
                    | {"step": None if stream else number}
                    for stream, texts in enumerate(streams)
                    for number, text in enumerate(texts)
                ]
                transaction.execute(insert(tables.lines), lines)
                counts = zip(("history_lines", "event_lines", "log_lines"), map(len, streams), strict=True)
                changes = dict(counts) | {
                    "history_keys": keys_of(tuple(name for name in history[-1] if not name.startswith("_"))),
                    "system_metrics": json.dumps(events[-1]),
                    "summary": json.dumps(history[-1] | json.loads(run.summary)),
                }
                transaction.execute(update(tables.runs).where(tables.runs.c.id == run.id).values(**changes))


def _drawn(space: Mapping[str, Any], dice: random.Random) -> Any:
    if "parameters" in space:
        return {name: _drawn(each, dice) for name, each in space["parameters"].items()}
    if "value" in space:
        return space["value"]
    if "values" in space:
        return dice.choice(space["values"])
    if "log" in space.get("distribution", ""):
        return math.exp(dice.uniform(math.log(space["min"]), math.log(space["max"])))
    return dice.uniform(space["min"], space["max"])


def _quality(given: Mapping[str, Any], dice: random.Random) -> float:
    values = {name: entry["value"] for name, entry in given.items()}
    optimizer = values.get("optimizer", "")
    worse = 0.08 * (optimizer == "sgd") + 0.04 * (optimizer == "rmsprop")
    away = (math.log10(values.get("lr", 0.01)) + 2.5) ** 2
    numbers = sum(value for value in values.values() if isinstance(value, float))
    return float(0.1 + 0.05 * away + worse + 0.02 * dice.random() + 1e-3 * (numbers % 1))


def _history(
    metric: str, final: float, points: int, dice: random.Random, begin: float
) -> Iterator[dict[str, Any]]:
    for step in range(max(2, points)):
        value = final + 2 * math.exp(-step / (points / 5)) * dice.uniform(0.9, 1.1)
        yield {
            "_step": step,
            "_runtime": 2.0 * step,
            "_timestamp": begin + 2.0 * step,
            metric: value,
            "train/loss": value * 0.9,
            "train/accuracy": 1 / (1 + value),
            "epoch": step // 10,
            "learning_rate": 0.1 * 0.99**step,
        }


def _system(number: int, dice: random.Random) -> dict[str, float]:
    return {
        "system.cpu": dice.uniform(20, 90),
        "system.memory_percent": 40 + number,
        "system.proc.memory.rssMB": 2048 + 30.0 * number,
        "system.disk.\\.usageGB": 118.2,
        "system.gpu.0.gpu": dice.uniform(60, 99),
        "system.gpu.0.memoryAllocatedBytes": 6.1e9 + 1e8 * number,
        "system.gpu.0.temp": dice.uniform(60, 70),
        "system.gpu.0.powerWatts": dice.uniform(180, 250),
        "system.network.sent": 1e6 * number,
    }


def _console(points: int, *, failed: bool) -> Iterator[str]:
    for step in range(points):
        yield f"2026-12-02T10:00:00.000000 step {step}: loss {2 / (step + 1):.4f}"
    if failed:
        for line in (
            "Traceback (most recent call last):",
            '  File "train.py", line 41, in main',
            "    step(model)",
        ):
            yield f"ERROR 2026-12-02T10:00:01.000000 {line}"
        yield "ERROR 2026-12-02T10:00:01.000000 FloatingPointError: the loss is not a number"


def fill(services: Services) -> dict[str, str]:
    """Create all sweeps; return their ids by scene."""
    scenes = Scenes(services)
    states = "ffffffkffffffxfff" * 3 + "fffffrrrr"
    small = scenes.sweep(SMALL, 60, state="RUNNING", states=states, points=120)
    scenes.save(f"{small[-3:]}00005", f"{small[-3:]}00006")
    return {
        "small": small,
        "large": scenes.sweep({**SMALL, "name": "Ten thousand runs"}, 10_000, states="fffffffffx"),
        "ugly": scenes.sweep(UGLY, 40, states="fffxffff", points=60),
        "one": scenes.sweep({**SMALL, "name": "One run"}, 1, points=60),
        "none": scenes.sweep({**SMALL, "name": "No run yet"}, 0, state="RUNNING"),
        "failed": scenes.sweep({**SMALL, "name": "All failed"}, 12, states="x", points=30),
    }

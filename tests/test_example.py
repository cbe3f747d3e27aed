"""The seed example trains a real network, and runs as the README says."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.commands import Done, start_python

Training = Callable[..., Iterator[dict[str, Any]]]
EXAMPLE: Final = Path(__file__).parents[1] / "scripts" / "example"

SEED_SECTION: Final = json.loads("""
{"kind": "wandb_sweeps", "apply": true, "count": 2,
  "sweep_configuration": {"method": "random", "metric": {"goal": "maximize", "name": "cv_score"},
    "parameters": {"models": {"parameters": {"SplitEvent-1D-Unet-CNN": {"parameters": {
      "type": {"value": "split-event-seg-unet-1d-cnn"}, "loss": {"value": "mse-torch"},
      "optimizer": {"value": "adam-torch"},
      "epochs": {"values": [3, 5, 7]}, "batch_size": {"value": 32}, "lr": {"value": 0.0005},
      "hidden_layers": {"value": 8}, "early_stopping": {"value": 7}, "threshold": {"value": 0}}}}}}}}
""")

USAGE: Final = """
    hpo: HPO | None = config_loader.hpo

    if hpo is None:
        main()
    else:
        result = hpo.optimize(main)
"""


@pytest.fixture
def trained() -> Training:
    """Return a function that trains the example with changed settings and yields each epoch's metrics.

    The import of its module is late: with scikit-learn it takes a second.
    """
    train = importlib.import_module("scripts.example.train")
    settings, data = train.DEFAULTS["models"]["SplitEvent-1D-Unet-CNN"], train.DEFAULTS["data"]
    return lambda **changes: train.cross_validate(settings | changes, data)


def run_example(folder: Path, *arguments: str, env: dict[str, str]) -> Done:
    """Run the script with one BLAS thread; several would wait for each other in a busy loop."""
    words = (str(EXAMPLE / "train.py"), *arguments)
    command = start_python(*words, folder=folder, environment=env | {"OPENBLAS_NUM_THREADS": "1"})
    try:
        stdout, stderr = command.communicate(timeout=90)
    finally:
        command.kill()
    return Done(words, command.wait(), stdout, stderr)


def test_the_config_contains_the_seed_section_unchanged() -> None:
    config = json.loads((EXAMPLE / "config.json").read_text())
    assert config["hpo"] == SEED_SECTION
    assert set(config) > {"hpo"}


def test_the_example_uses_the_package_as_the_readme_shows() -> None:
    assert USAGE in (EXAMPLE / "train.py").read_text()


def test_a_longer_training_scores_better(trained: Training) -> None:
    lines = list(trained(epochs=6))
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["cv_score"] > max(0.5, lines[0]["cv_score"])
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_training_stops_early_when_the_gain_stays_below_the_threshold(trained: Training) -> None:
    lines = trained(epochs=9, early_stopping=2, threshold=1, hidden_layers=1)
    assert [line["epoch"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("key", ["type", "loss", "optimizer"])
def test_an_unknown_model_type_loss_or_optimizer_is_refused(trained: Training, key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} is 'other', but this example knows only: "):
        next(trained(**{key: "other"}))


@pytest.mark.leans_on_wandb
def test_two_workers_finish_the_seed_sweep(clean_env: dict[str, str], tmp_path: Path) -> None:
    ours = {"WORKERS": "2", "BACKEND": "local", "DIRECTORY": str(tmp_path / "sweeps")}
    env = clean_env | {f"PARALLEL_HPO_{key}": value for key, value in ours.items()}
    ended = run_example(tmp_path, env=env)
    assert ended.returncode == 0, ended.stderr
    (file,) = (tmp_path / "sweeps").glob("*/summary.json")
    summary = json.loads(file.read_text())
    assert (summary["attempted"], summary["finished"], summary["lost"]) == (2, 2, 0)
    assert math.isfinite(summary["best"]["value"])
    assert summary["best"]["value"] > 0.4


def test_without_hpo_the_example_trains_once_with_its_own_settings(
    clean_env: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hpo": SEED_SECTION | {"apply": False}}))
    ended = run_example(tmp_path, str(config), env=clean_env | {"WANDB_MODE": "offline"})
    assert ended.returncode == 0, ended.stderr
    assert "epoch 5/5: " in ended.stdout

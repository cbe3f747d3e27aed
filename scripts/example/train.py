"""The seed example: a small network on scikit-learn's digits, tuned over its settings.

`main` is one run. It trains one network per fold of a cross-validation, side by
side, and logs a line per epoch with the `cv_score` reached so far. What to try is
in config.json beside this file, or in the file named as first argument.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import wandb
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPRegressor

from parallel_hpo import HPO, ConfigLoader

CONFIG: Final = Path(__file__).with_name("config.json")

DEFAULTS: Final = {key: value for key, value in json.loads(CONFIG.read_text()).items() if key != "hpo"}
"""Default settings, for keys that the sweep doesn't set and for runs without a sweep."""

LAYER_WIDTH: Final = 64

KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "type": {"split-event-seg-unet-1d-cnn": MLPRegressor},
    "loss": {"mse-torch": "squared_error"},
    "optimizer": {"adam-torch": "adam", "sgd-torch": "sgd"},
}
"""The names allowed in settings, and their meanings here."""


def main() -> None:
    """Train and score one setting; wandb.config holds it."""
    with wandb.init(config=DEFAULTS) as run:
        epochs = wandb.config["models"]["SplitEvent-1D-Unet-CNN"]["epochs"]
        for line in cross_validate(wandb.config["models"]["SplitEvent-1D-Unet-CNN"], wandb.config["data"]):
            run.log(line)
            print(f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.4f}, cv_score {line['cv_score']:.4f}")


def cross_validate(settings: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Train all folds epoch by epoch; `early_stopping` epochs without a gain above `threshold` end it."""
    folds = make_folds(settings, data)
    best, idle_epochs = -np.inf, 0
    for epoch in range(1, settings["epochs"] + 1):
        loss = float(np.mean([fold.train_one_epoch() for fold in folds]))
        cv_score = float(np.mean([fold.score() for fold in folds]))
        yield {"epoch": epoch, "loss": loss, "cv_score": cv_score}

        idle_epochs = 0 if cv_score > best + settings["threshold"] else idle_epochs + 1
        best = max(best, cv_score)
        if idle_epochs >= settings["early_stopping"]:
            return


@dataclass
class Fold:
    """One split of the data, and the network that is trained on it."""

    network: MLPRegressor
    images: NDArray[np.float64]
    digits: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    def train_one_epoch(self) -> float:
        """Show the network its training images once, and return the loss."""
        one_hot = np.eye(10)[self.digits[self.train]]
        self.network.partial_fit(self.images[self.train], one_hot)
        return float(self.network.loss_)

    def score(self) -> float:
        """Return the share of the held-out images that the network reads correctly."""
        read = self.network.predict(self.images[self.test]).argmax(axis=1)
        return float(np.mean(read == self.digits[self.test]))


def make_folds(settings: Mapping[str, Any], data: Mapping[str, Any]) -> list[Fold]:
    """Split the digits, with a fresh network for each split."""
    images, digits = load_digits(return_X_y=True)
    splitter = StratifiedKFold(data["folds"], shuffle=True, random_state=data["shuffle_seed"])
    return [
        Fold(make_network(settings), images / 16, digits, train, test)
        for train, test in splitter.split(images, digits)
    ]


def make_network(settings: Mapping[str, Any]) -> MLPRegressor:
    """Build the network; the loss of the one type that is known is the squared error."""
    known("loss", settings)
    return known("type", settings)(
        hidden_layer_sizes=(LAYER_WIDTH,) * settings["hidden_layers"],
        solver=known("optimizer", settings),
        batch_size=settings["batch_size"],
        learning_rate_init=settings["lr"],
    )


def known(key: str, settings: Mapping[str, Any]) -> Any:
    """Return the meaning of a name in the settings; ValueError lists the allowed names."""
    name = settings[key]
    if name not in KNOWN[key]:
        raise ValueError(f"{key} is {name!r}, but this example knows only: {', '.join(KNOWN[key])}")
    return KNOWN[key][name]


if __name__ == "__main__":
    config_loader = ConfigLoader(sys.argv[1] if len(sys.argv) > 1 else CONFIG)
    hpo: HPO | None = config_loader.hpo

    if hpo is None:
        main()
    else:
        result = hpo.optimize(main)

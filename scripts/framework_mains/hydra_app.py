"""A Hydra application: parameters come as `lr=… model.width=…`, the W&B run by wandb.init."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import hydra
import numpy as np
import wandb
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


@dataclass
class Model:
    width: int = 32


@dataclass
class Settings:
    lr: float = 0.01
    model: Model = field(default_factory=Model)


ConfigStore.instance().store("settings", Settings)


@hydra.main(version_base=None, config_path=None, config_name="settings")
def main(settings: Settings) -> None:
    run = wandb.init(config=OmegaConf.to_container(settings))
    print("training with", settings, flush=True)
    train_x, valid_x, train_y, valid_y = train_test_split(*load_digits(return_X_y=True), random_state=0)
    model = MLPClassifier((settings.model.width,), learning_rate_init=settings.lr, random_state=0)
    for epoch in range(30):
        model.partial_fit(train_x, train_y, classes=np.unique(train_y))
        accuracy = model.score(valid_x, valid_y)
        run.log({"epoch": epoch, "accuracy": accuracy})
    results = Path(hydra.utils.get_original_cwd(), "results")
    results.mkdir(exist_ok=True)
    (results / f"{run.id}.json").write_text(json.dumps({"accuracy": accuracy}))
    run.finish()


if __name__ == "__main__":
    main()

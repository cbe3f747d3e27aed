"""Keras on TensorFlow, with W&B's callback."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import wandb
from sklearn.datasets import load_digits
from wandb.integration.keras import WandbMetricsLogger

from parallel_hpo import ConfigLoader


def main():
    run = wandb.init(config={"lr": 0.01, "width": 32})
    print("training with", dict(run.config))
    images, digits = load_digits(return_X_y=True)
    model = keras.Sequential(
        [
            keras.layers.Dense(run.config.width, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(run.config.lr),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(
        images / 16,
        digits,
        epochs=8,
        validation_split=0.2,
        verbose=2,
        callbacks=[WandbMetricsLogger()],
    )
    loss = history.history["val_loss"][-1]
    Path("results").mkdir(exist_ok=True)
    Path("results", f"{run.id}.json").write_text(json.dumps({"epoch/val_loss": loss}))
    run.finish()


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)

"""LightGBM with W&B's callback."""

from __future__ import annotations

import json
from pathlib import Path

import lightgbm
import wandb
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from wandb.integration.lightgbm import log_summary, wandb_callback

from parallel_hpo import ConfigLoader


def main():
    run = wandb.init(config={"num_leaves": 15, "learning_rate": 0.1})
    print("training with", dict(run.config))
    train_x, valid_x, train_y, valid_y = train_test_split(*load_digits(return_X_y=True), random_state=0)
    data = lightgbm.Dataset(train_x, train_y)
    params = {
        "objective": "multiclass",
        "num_class": 10,
        "metric": "multi_logloss",
        "num_leaves": run.config.num_leaves,
        "learning_rate": run.config.learning_rate,
    }
    history = {}
    model = lightgbm.train(
        params,
        data,
        num_boost_round=120,
        valid_sets=[data.create_valid(valid_x, valid_y)],
        valid_names=["validation"],
        callbacks=[wandb_callback(), lightgbm.record_evaluation(history), lightgbm.log_evaluation(20)],
    )
    log_summary(model)
    losses = history["validation"]["multi_logloss"]
    Path("results").mkdir(exist_ok=True)
    Path("results", f"{run.id}.json").write_text(json.dumps({"validation_multi_logloss": min(losses)}))
    run.finish()


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)

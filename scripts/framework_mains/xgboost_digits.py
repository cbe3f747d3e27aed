"""XGBoost with W&B's callback."""

from __future__ import annotations

import json
from pathlib import Path

import wandb
import xgboost
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from wandb.integration.xgboost import WandbCallback

from parallel_hpo import ConfigLoader


def main():
    with wandb.init(config={"max_depth": 4, "eta": 0.3}) as run:
        print("training with", dict(run.config))
        train_x, valid_x, train_y, valid_y = train_test_split(*load_digits(return_X_y=True), random_state=0)
        model = xgboost.XGBClassifier(
            n_estimators=250,
            max_depth=run.config["max_depth"],
            learning_rate=run.config["eta"],
            eval_metric="mlogloss",
            callbacks=[WandbCallback()],
        )
        model.fit(train_x, train_y, eval_set=[(valid_x, valid_y)])
        losses = model.evals_result()["validation_0"]["mlogloss"]
        Path("results").mkdir(exist_ok=True)
        Path("results", f"{run.id}.json").write_text(json.dumps({"validation_0-mlogloss": min(losses)}))


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)

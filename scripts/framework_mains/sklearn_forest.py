"""scikit-learn: a pipeline with a step of our own, cross-validated by two processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import wandb
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from parallel_hpo import ConfigLoader


def binarize(images):
    return np.where(images > 7, 1, 0)


def accuracy(truth, found):
    return accuracy_score(truth, found)


def main():
    run = wandb.init(config={"max_depth": 8})
    print("training with", dict(run.config))
    images, digits = load_digits(return_X_y=True)
    forest = RandomForestClassifier(60, max_depth=run.config.max_depth, n_jobs=2, random_state=0)
    model = make_pipeline(FunctionTransformer(binarize), forest)
    scores = cross_val_score(model, images, digits, cv=4, n_jobs=2, scoring=make_scorer(accuracy))
    run.log({"accuracy": scores.mean()})
    Path("results").mkdir(exist_ok=True)
    Path("results", f"{run.id}.json").write_text(json.dumps({"accuracy": scores.mean()}))


if __name__ == "__main__":
    hpo = ConfigLoader("config.json").hpo
    if hpo is None:
        main()
    else:
        hpo.optimize(main)

"""Real trainings on the data sets that scikit-learn ships with: losses on held-out data after each iteration.

Losses are errors of classification, log losses, or root mean squared errors of standardized targets. All
parameters are levels, so that a table of all points is finite; `tables` makes it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.search.problems import Conditions, Point

ITERATIONS: Final = 27
_TREES: Final = 2
"""Number of trees for each iteration of boosting."""
_BATCH: Final = 64
_FOLDS: Final = 3
_SEED: Final = 0
_DIVERGED: Final = 10.0
"""Maximum loss, and that of a training without a finite one."""
_MAX_STEPS: Final = 20_000
"""Maximum steps of a support vector machine, as some parameters never converge."""

Curve = list[float]
Array = NDArray[Any]


@dataclass(frozen=True)
class Training:
    """A training by its parameters; `only_if`: as in a Problem."""

    curve: Callable[[Point], Curve]
    parameters: Mapping[str, Any]
    only_if: Conditions = field(default_factory=dict)


def _support_vectors(data: str, point: Point) -> Curve:
    """Return the loss of a support vector machine, which has no iterations to look at."""
    from sklearn.svm import SVC, SVR

    machine = SVR if data == "diabetes" else SVC
    losses = []
    for inputs, targets, unseen, wanted in _folds(data):
        model = machine(max_iter=_MAX_STEPS, **point).fit(inputs, targets)
        losses.append(_loss(model.predict(unseen), wanted))
    return [_finite(statistics.fmean(losses))]


def _boosting(data: str, point: Point) -> Curve:
    """Return the losses of gradient-boosted trees."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    machine = GradientBoostingRegressor if data == "diabetes" else GradientBoostingClassifier
    inputs, targets, unseen, wanted = next(_folds(data))
    model = machine(n_estimators=ITERATIONS * _TREES, random_state=_SEED, **_of_trees(point))
    model.fit(inputs, targets)
    stages = model.staged_predict if data == "diabetes" else model.staged_predict_proba
    return [_finite(_loss(predicted, wanted)) for predicted in stages(unseen)][_TREES - 1 :: _TREES]


def _of_trees(point: Point) -> dict[str, Any]:
    """Return the parameters as scikit-learn has them: a tree is limited by its depth or by its leaves."""
    values = {name: value for name, value in point.items() if name != "limit"}
    return values | {"max_depth": None} if "max_leaf_nodes" in values else values


def _network(data: str, point: Point) -> Curve:
    """Return the losses of a network with one or two hidden layers; an iteration is an epoch."""
    from sklearn.neural_network import MLPClassifier

    inputs, targets, unseen, wanted = next(_folds(data))
    values = {name: value for name, value in point.items() if name not in ("units", "layers")}
    hidden = (point["units"],) * point["layers"]
    model = MLPClassifier(hidden, batch_size=_BATCH, random_state=_SEED, **values)
    losses: Curve = []
    for _ in range(ITERATIONS):
        try:
            model.partial_fit(inputs, targets, classes=np.unique(targets))
        except ValueError:  # the weights are infinite
            break
        losses.append(_finite(_loss(model.predict_proba(unseen), wanted)))
    return losses + [_DIVERGED] * (ITERATIONS - len(losses))


def _finite(loss: float) -> float:
    return min(loss, _DIVERGED) if math.isfinite(loss) else _DIVERGED


def _loss(predicted: Array, wanted: Array) -> float:
    """Return a log loss for probabilities, an error of classification, or a root mean squared error."""
    if predicted.ndim == 2:
        chances = predicted[np.arange(len(wanted)), wanted]
        return float(-np.log(np.maximum(chances, 1e-15)).mean())
    if np.issubdtype(wanted.dtype, np.integer):
        return float((predicted != wanted).mean())
    return float(np.sqrt(np.square(predicted - wanted).mean()))


@cache
def _data(name: str) -> tuple[Array, Array]:
    """Return standardized inputs (pixels from 0 to 1) and targets, in an order that is random but fixed."""
    from sklearn import datasets

    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(inputs))
    if name == "digits":
        return inputs[order] / 16, targets[order]
    if name == "diabetes":
        targets = (targets - targets.mean()) / targets.std()
    return ((inputs - inputs.mean(axis=0)) / inputs.std(axis=0))[order], targets[order]


def _folds(name: str) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yield inputs and targets to learn from, and others to predict."""
    inputs, targets = _data(name)
    for fold in range(_FOLDS):
        unseen = np.arange(len(inputs)) % _FOLDS == fold
        yield inputs[~unseen], targets[~unseen], inputs[unseen], targets[unseen]


def _powers(first: int, last: int, *, each: int = 1) -> list[float]:
    """Return the powers of ten from one exponent to another, `each` for each order of magnitude."""
    return [float(f"{10 ** (step / each):.3g}") for step in range(first * each, last * each + 1)]


_KERNELS: Final[Conditions] = {
    "gamma": ("kernel", ("rbf", "poly", "sigmoid")),
    "degree": ("kernel", ("poly",)),
    "coef0": ("kernel", ("poly", "sigmoid")),
}

TRAININGS: Final[Mapping[str, Training]] = {
    "SVM, digits": Training(
        partial(_support_vectors, "digits"),
        {
            "kernel": {"values": ["linear", "rbf", "poly", "sigmoid"]},
            "C": {"values": _powers(-2, 3, each=2)},
            "gamma": {"values": _powers(-4, 1, each=2)},
            "degree": {"values": [2, 3, 4]},
            "coef0": {"values": [0.0, 0.5, 1.0, 2.0]},
        },
        _KERNELS,
    ),
    "SVM, diabetes": Training(
        partial(_support_vectors, "diabetes"),
        {
            "kernel": {"values": ["linear", "rbf", "poly", "sigmoid"]},
            "C": {"values": _powers(-2, 2, each=2)},
            "gamma": {"values": _powers(-4, 0, each=2)},
            "degree": {"values": [2, 3]},
            "coef0": {"values": [0.0, 1.0, 2.0]},
            "epsilon": {"values": [0.01, 0.1, 0.3, 1.0]},
        },
        _KERNELS,
    ),
    "boosting, diabetes": Training(
        partial(_boosting, "diabetes"),
        {
            "learning_rate": {"values": [0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8]},
            "max_depth": {"values": [1, 2, 3, 4, 6]},
            "subsample": {"values": [0.4, 0.7, 1.0]},
            "min_samples_leaf": {"values": [1, 5, 20]},
            "loss": {"values": ["squared_error", "absolute_error", "huber"]},
            "alpha": {"values": [0.6, 0.75, 0.85, 0.95]},
        },
        {"alpha": ("loss", ("huber",))},
    ),
    "boosting, breast cancer": Training(
        partial(_boosting, "breast_cancer"),
        {
            "learning_rate": {"values": [0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8]},
            "limit": {"values": ["depth", "leaves"]},
            "max_depth": {"values": [1, 2, 3, 4, 6]},
            "max_leaf_nodes": {"values": [2, 4, 8, 16, 32]},
            "subsample": {"values": [0.3, 0.5, 0.7, 0.85, 1.0]},
            "max_features": {"values": [1, 2, 5, 12, 30]},
        },
        {"max_depth": ("limit", ("depth",)), "max_leaf_nodes": ("limit", ("leaves",))},
    ),
    **{
        f"network, {data.replace('_', ' ')}": Training(
            partial(_network, data),
            {
                "solver": {"values": ["adam", "sgd"]},
                "learning_rate_init": {"values": _powers(-4, 0, each=3)[:11]},
                "momentum": {"values": [0.0, 0.5, 0.8, 0.95]},
                "units": {"values": [8, 16, 32, 64]},
                "layers": {"values": [1, 2]},
                "alpha": {"values": _powers(-5, 0)},
            },
            {"momentum": ("solver", ("sgd",))},
        )
        for data in ("digits", "breast_cancer")
    },
}
"""The trainings; a network's momentum, for example, matters only with the solver sgd."""

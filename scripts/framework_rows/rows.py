"""The tested frameworks: packages, script, and notes for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

RUNS: Final = 6
WORKERS: Final = 2
PROJECT: Final = "digits"
BEGUN: Final = "training with"
"""Text that each script prints once it has its W&B run."""


@dataclass(frozen=True)
class Row:
    """One framework's trial: a sweep over `parameters` with a script of framework_mains."""

    name: str
    title: str
    environment: str
    script: str
    metric: str
    parameters: Mapping[str, Any]
    know: str
    packages: tuple[str, ...]
    """Packages whose versions are shown."""
    goal: str = "minimize"
    preload: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """The sweep's own command; without it the script calls `optimize` itself."""


def _between(smallest: float, largest: float) -> dict[str, float]:
    return {"min": smallest, "max": largest}


_SMALLEST: Final = (
    "W&B's callback declares the smallest loss of all rounds, not the last, to be the run's; so the search"
    " and `best` go by that."
)
ROWS: Final = (
    Row(
        name="sklearn",
        title="scikit-learn, `n_jobs=2`",
        environment="trees",
        script="sklearn_forest.py",
        metric="accuracy",
        goal="maximize",
        parameters={"max_depth": {"min": 2, "max": 12}},
        preload=("sklearn.ensemble", "sklearn.model_selection", "sklearn.pipeline"),
        packages=("scikit-learn", "joblib"),
        know="`n_jobs` multiplies with `workers`: four processes compute here. They end with their run.",
    ),
    Row(
        name="xgboost",
        title="XGBoost, `WandbCallback`",
        environment="trees",
        script="xgboost_digits.py",
        metric="validation_0-mlogloss",
        parameters={"max_depth": {"min": 2, "max": 6}, "eta": _between(0.05, 0.5)},
        preload=("xgboost", "sklearn.model_selection"),
        packages=("xgboost-cpu",),
        know=_SMALLEST,
    ),
    Row(
        name="lightgbm",
        title="LightGBM, `wandb_callback`",
        environment="trees",
        script="lightgbm_digits.py",
        metric="validation_multi_logloss",
        parameters={"num_leaves": {"min": 4, "max": 31}, "learning_rate": _between(0.05, 0.3)},
        preload=("lightgbm", "sklearn.model_selection"),
        packages=("lightgbm",),
        know=_SMALLEST,
    ),
    Row(
        name="dataloader",
        title="PyTorch, `DataLoader(num_workers=2, persistent_workers=True)`",
        environment="torch",
        script="torch_dataloader.py",
        metric="loss",
        parameters={"lr": _between(0.01, 0.5), "width": {"min": 8, "max": 64}},
        preload=("torch", "sklearn.datasets"),
        packages=("torch",),
        know="Workers of a `DataLoader` persist within a run, and end with it.",
    ),
    Row(
        name="ddp",
        title="PyTorch DDP, gloo, two processes by `mp.spawn`",
        environment="torch",
        script="torch_ddp.py",
        metric="loss",
        parameters={"lr": _between(0.1, 1.0)},
        preload=("torch.distributed", "torch.multiprocessing", "sklearn.datasets"),
        packages=("torch",),
        know="Several groups run on one machine: let each take a free port, as the script does, not a fixed"
        " `MASTER_PORT`. Hand the parameters of rank 0's run on to the other ranks, as"
        " `broadcast_object_list` does here. The children of `mp.spawn` import everything anew, also with"
        " `preload`.",
    ),
    Row(
        name="lightning",
        title="Lightning, `WandbLogger`",
        environment="torch",
        script="lightning_module.py",
        metric="val/loss",
        parameters={"lr": {"distribution": "log_uniform_values", **_between(0.001, 0.1)}},
        preload=("lightning", "lightning.pytorch.loggers", "sklearn.datasets"),
        packages=("lightning", "torch"),
        know="Call `wandb.init()` before the `WandbLogger` is made: the parameters are needed for the model.",
    ),
    Row(
        name="transformers",
        title='transformers, `Trainer(report_to="wandb")`',
        environment="torch",
        script="transformers_trainer.py",
        metric="eval/loss",
        parameters={"learning_rate": {"distribution": "log_uniform_values", **_between(1e-4, 1e-2)}},
        preload=("torch", "transformers.models.bert.modeling_bert", "transformers.trainer"),
        packages=("transformers", "torch"),
        know="Call `wandb.init()` before the `Trainer` is made: its parameters are needed for that.",
    ),
    Row(
        name="keras",
        title="Keras on TensorFlow, `WandbMetricsLogger`",
        environment="keras",
        script="keras_digits.py",
        metric="epoch/val_loss",
        parameters={"lr": _between(0.001, 0.05), "width": {"min": 8, "max": 64}},
        preload=("keras", "wandb.integration.keras", "sklearn.datasets"),
        packages=("keras", "tensorflow-cpu"),
        know="W&B's callbacks for Keras import TensorFlow, whatever Keras' own backend is.",
    ),
    Row(
        name="jax",
        title="JAX",
        environment="jax",
        script="jax_mlp.py",
        metric="loss",
        parameters={"lr": _between(0.1, 1.0)},
        preload=("jax", "jax.numpy", "sklearn.datasets"),
        packages=("jax", "jaxlib"),
        know="Nothing that is preloaded may compute on import: JAX has threads from its first array on.",
    ),
    Row(
        name="hydra",
        title="Hydra, `@hydra.main` in a program",
        environment="trees",
        script="hydra_app.py",
        metric="accuracy",
        goal="maximize",
        parameters={"lr": _between(0.001, 0.05), "model.width": {"min": 8, "max": 64}},
        command=("${env}", "${interpreter}", "${program}", "${args_no_hyphens}"),
        packages=("hydra-core",),
        know="The sweep's `command` is `[${env}, ${interpreter}, ${program}, ${args_no_hyphens}]`, its"
        " parameters are named as on Hydra's command line (`model.width`). Hydra's own output folder is named"
        " by the second: two runs that start in the same one share it, unless `hydra.run.dir` has"
        " `${oc.env:WANDB_RUN_ID}` in it.",
    ),
    Row(
        name="accelerate",
        title="`accelerate launch` of two processes, as a program",
        environment="torch",
        script="accelerate_app.py",
        metric="loss",
        parameters={"lr": _between(0.01, 0.5)},
        command=(
            *("${env}", "accelerate", "launch", "--cpu", "--num_processes", "2", "--main_process_port", "0"),
            *("${program}", "${args}"),
        ),
        packages=("accelerate", "torch"),
        know="`--main_process_port 0` in the sweep's `command` takes a free port: with the default, 29500,"
        " the second worker's launch would find it taken. The project that `init_trackers` names is ignored"
        " in a sweep.",
    ),
)
BY_NAME: Final = {row.name: row for row in ROWS}

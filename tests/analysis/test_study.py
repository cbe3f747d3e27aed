"""A sweep's result as an Optuna study, in memory and in a storage that Optuna reads back, and as plots."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from parallel_hpo.analysis.plots import Plots
from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.analysis.study import to_study, write_storage
from parallel_hpo.core.errors import ConfigError, UsageError
from parallel_hpo.core.types import Outcome
from parallel_hpo.records.ledger import Ledger
from tests.analysis.sweeps import odd_sweep, result_of, row
from tests.storages import storage_in


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_best_trial_is_the_best_run(goal: str) -> None:
    result = result_of([row(number, {"x": number}, float(number)) for number in range(3)], goal=goal)
    assert result.best is not None
    best = result.to_study().best_trial
    assert (best.user_attrs["run_id"], best.value) == (result.best.run_id, result.best.value)


def test_each_run_is_a_trial_whose_state_matches_its_outcome() -> None:
    ends = {
        (Outcome.FINISHED, 1.0): TrialState.COMPLETE,
        (Outcome.FINISHED, None): TrialState.FAIL,
        (Outcome.FAILED, 1.0): TrialState.FAIL,
        (Outcome.CRASHED, None): TrialState.FAIL,
        (Outcome.STOPPED, 1.0): TrialState.PRUNED,
        (None, None): TrialState.RUNNING,
    }
    rows = [row(number, {"x": 1}, value, end) for number, (end, value) in enumerate(ends)]
    trials = result_of(rows).to_study().trials
    assert [trial.state for trial in trials] == list(ends.values())
    assert trials[0].duration == timedelta(seconds=2.5)
    assert trials[0].datetime_start and trials[1].datetime_start
    assert trials[1].datetime_start - trials[0].datetime_start == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ([1, 5, 3], IntDistribution(1, 5)),
        ([0.5, 0.25], FloatDistribution(0.25, 0.5)),
        ([1, 0.5], FloatDistribution(0.5, 1.0)),
        ([1e-5, 1e-3, 1e-1], FloatDistribution(1e-5, 1e-1, log=True)),
        ([1.0, 2.0, 4.0], FloatDistribution(1.0, 4.0)),
        ([1, 16, 256], IntDistribution(1, 256, log=True)),
        ([0.001, 0.4, 0.5, 0.6, 1.0], FloatDistribution(0.001, 1.0)),
        ([-1.0, 1e-3, 10.0], FloatDistribution(-1.0, 10.0)),
        (["b", "a", "b"], CategoricalDistribution(["b", "a"])),
        ([True, False], CategoricalDistribution([True, False])),
        ([True, 1], CategoricalDistribution(["true", "1"])),
        ([[1, 2], [3], [1, 2]], CategoricalDistribution(["[1, 2]", "[3]"])),
        ([None, "a"], CategoricalDistribution(["null", "a"])),
        ([float("nan"), 1.0], CategoricalDistribution(["NaN", "1.0"])),
        ([float("inf"), 1.0], CategoricalDistribution(["Infinity", "1.0"])),
        ([10**400, 1.0], CategoricalDistribution([str(10**400), "1.0"])),
        ([{}, {}], CategoricalDistribution(["{}"])),
    ],
)
def test_a_distribution_contains_the_observed_values(values: list[Any], distribution: Any) -> None:
    study = result_of([row(number, {"x": value}) for number, value in enumerate(values)]).to_study()
    assert study.trials[0].distributions["x"] == distribution


def load(file: Path, study: str = "abc") -> optuna.Study:
    return optuna.load_study(study_name=study, storage=storage_in(file))


def write(sweep: SweepResult, file: Path, earlier: Path | None = None) -> Path:
    write_storage(sweep, file, lambda run_id: {0: 3.0, 10: 0.5}, earlier=earlier)
    return file


def test_optuna_reads_the_written_storage_like_one_of_its_own(tmp_path: Path) -> None:
    sweep = replace(odd_sweep(), goal="maximize")
    study, wanted = load(write(sweep, tmp_path / "s.db")), to_study(sweep)
    for trial, expected in zip(study.trials, wanted.trials, strict=True):
        assert trial.intermediate_values == {0: 3.0, 10: 0.5}
        trial.intermediate_values = {}
        trial._trial_id = expected._trial_id
        assert trial == expected
    assert (study.direction, study.metric_names) == (optuna.study.StudyDirection.MAXIMIZE, ["loss"])
    assert study.user_attrs == wanted.user_attrs
    assert study.best_trial.number == wanted.best_trial.number


def test_a_study_can_be_continued(tmp_path: Path) -> None:
    study = load(write(result_of([row(0, {"x": 0.0}, 1.0), row(1, {"x": 1.0}, 2.0)]), tmp_path / "s.db"))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]


def test_a_storage_keeps_other_studies(tmp_path: Path) -> None:
    first = write(odd_sweep(20), tmp_path / "1.db")
    second = write(replace(odd_sweep(10), sweep_id="def"), tmp_path / "2.db", earlier=first)
    third = write(odd_sweep(30), tmp_path / "3.db", earlier=second)
    assert optuna.get_all_study_names(storage_in(third)) == ["def", "abc"]
    assert [len(load(third, name).trials) for name in ("def", "abc")] == [10, 30]
    assert load(third).trials[29].user_attrs["run_id"] == "run29"


@contextmanager
def sqlite_storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_the_studies_of_an_older_sqlite_storage_are_kept(tmp_path: Path) -> None:
    earlier = tmp_path / "old.db"
    with sqlite_storage(earlier) as storage:
        to_study(replace(odd_sweep(3), sweep_id="def"), storage=storage)
        to_study(odd_sweep(1), storage=storage)
    before = earlier.read_bytes()
    written = write(odd_sweep(2), tmp_path / "new", earlier=earlier)
    assert [len(load(written, name).trials) for name in ("def", "abc")] == [3, 2]
    assert earlier.read_bytes() == before


def test_a_file_that_is_not_a_current_optuna_storage_is_not_overwritten(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").__exit__(None, None, None)
    (tmp_path / "notes.txt").write_text("notes" * 1000)
    with sqlite_storage(tmp_path / "s.db") as storage:
        to_study(odd_sweep(2), storage=storage)
    with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    for name in ("ledger.db", "notes.txt", "s.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match=rf"{name} exists and is not an Optuna storage"):
            write(replace(odd_sweep(2), sweep_id="def"), tmp_path / "new.db", earlier=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("seeds", [[], [f"{10**400}", "7"]])
def test_a_storage_may_have_no_trials_or_a_huge_integer(tmp_path: Path, seeds: list[str]) -> None:
    sweep = result_of([row(number, {"seed": int(seed)}) for number, seed in enumerate(seeds)])
    assert [trial.params["seed"] for trial in load(write(sweep, tmp_path / "s.db")).trials] == seeds


RESULT = result_of([row(0, {"lr": 0.1}, 0.25), row(1, {"lr": 0.2}, None, Outcome.FAILED)])


def test_the_repr_of_a_result_is_one_line_with_counts_and_the_best_run() -> None:
    assert repr(RESULT) == (
        "<SweepResult abc: 2 runs, 1 finished, 1 failed; count reached; best loss 0.25 (run run0)>"
    )


def test_the_repr_of_plots_lists_their_methods() -> None:
    assert repr(RESULT.plots).startswith("<Plots of 2 runs: history(), importances()")


def test_an_error_in_a_notebook_shows_only_its_message() -> None:
    assert ConfigError("hpo.count is 0")._render_traceback_() == ["ConfigError: hpo.count is 0"]


def test_a_result_in_a_notebook_is_a_table_with_escaped_text() -> None:
    assert "<th>lr</th><td>0.1</td>" in RESULT._repr_html_()
    url = 'http://host/"><script>'
    evil = replace(result_of([row(0, {"lr": "<script>"})]), stop_reason="\x1b]0;owned\x07", sweep_url=url)
    assert "<script>" not in evil._repr_html_()
    assert "\x1b" not in evil._repr_html_() + repr(evil)


NAMES: Final = ("history", "importances", "parallel", "slice", "contour", "rank", "edf", "timeline")
OF_PARAMETERS: Final = ("importances", "parallel", "slice", "contour", "rank")


def draw(plots: Plots, name: str, *parameters: str) -> Any:
    plot: Callable[..., Any] = getattr(plots, name)
    return plot(*parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_of_odd_runs_is_drawn(name: str) -> None:
    figure = draw(odd_sweep().plots, name)
    assert len(figure.data) > 0
    assert figure.to_json()


def test_every_plot_method_is_tested() -> None:
    assert [name for name in vars(Plots) if not name.startswith("_")] == list(NAMES)


@pytest.mark.parametrize("name", ["history", "parallel", "slice", "contour", "rank", "edf", "timeline"])
def test_a_sweep_without_finished_runs_is_drawn(name: str) -> None:
    rows = [row(number, {"x": number, "y": -number}, None, Outcome.FAILED) for number in range(3)]
    logging.getLogger("optuna").propagate = False
    draw(result_of(rows).plots, name)


def axes(plots: Plots, *parameters: str) -> set[str]:
    return {axis.title.text for axis in plots.slice(*parameters).select_xaxes()}


def test_only_varying_or_named_parameters_are_drawn_on_suitable_axes() -> None:
    plots = odd_sweep().plots
    assert {"optimizer.lr", "layers", "momentum", "mixed"} <= axes(plots)
    assert "fixed" not in axes(plots)
    assert axes(plots, "depth", "fixed") == {"depth", "fixed"}
    sometimes = [row(0, {"x": 1}, 1.0), row(1, {"x": 2, "only_here": 1}, 2.0)]
    assert axes(result_of(sometimes).plots) == {"x", "only_here"}
    assert plots.slice("optimizer.lr").layout.xaxis.type == "log"
    assert plots.history().layout.yaxis.title.text == "loss"


SAME = result_of([row(number, {"x": 1}, float(number)) for number in range(3)])
EQUAL = result_of([row(0, {"x": 1}, 1.0), row(1, {"x": 2}, 1.0), row(2, {"x": 3}, 3.0, Outcome.FAILED)])
UNKNOWN = r"no finished run has a parameter 'lr'; there: optimizer\.kind, optimizer\.lr"


@pytest.mark.parametrize(
    ("sweep", "name", "parameters", "words"),
    [
        *((odd_sweep(), name, ["lr"], UNKNOWN) for name in OF_PARAMETERS),
        *((SAME, name, [], "no parameter differs from run to run") for name in OF_PARAMETERS),
        (odd_sweep(), "contour", ["depth"], "pairs of parameters, and there is only depth"),
        (odd_sweep(), "rank", ["depth"], "pairs of parameters, and there is only depth"),
        (EQUAL, "importances", [], "two finished runs with different values"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused(
    sweep: SweepResult, name: str, parameters: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        draw(sweep.plots, name, *parameters)


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("pandas", "to_dataframe", "pandas"),
        ("plotly", "plots.history", "plots"),
        ("plotly", "plots.timeline", "plots"),
        ("optuna", "plots.importances", "plots"),
        ("optuna", "to_study", "plots"),
    ],
)
def test_libraries_of_extras_are_imported_lazily_and_a_missing_one_is_named(
    missing: str, call: str, extra: str
) -> None:
    script = (
        "import sys; from parallel_hpo import HPO, ConfigLoader, SweepResult, load\n"
        "print(sorted({'pandas', 'optuna', 'plotly', 'IPython', 'ipykernel'} & sys.modules.keys()))\n"
        f"sys.modules[{missing!r}] = None\n"
        f"from tests.analysis.sweeps import odd_sweep\nodd_sweep(9).{call}()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr
    assert f"MissingExtraError: this needs {missing}" in ended.stderr
    assert f"pip install 'parallel_hpo[{extra}]'" in ended.stderr

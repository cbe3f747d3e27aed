"""Plots of a sweep by `optuna.visualization`: each method returns a plotly figure.

Parameters are named as in the study, with dots; without names, those that vary are drawn.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from parallel_hpo.analysis.study import EXTRA, to_study, uncopied_storage, varying
from parallel_hpo.analysis.table import AnalysedSweep
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.version import library

if TYPE_CHECKING:
    import optuna
    from plotly.graph_objects import Figure


class Plots:
    """What `SweepResult.plots` is.

    Each method raises MissingExtraError where plotly or a new enough Optuna is missing, and
    UsageError where the runs have nothing to draw, or not the parameter.
    """

    def __init__(self, sweep: AnalysedSweep) -> None:
        self._sweep = sweep

    def __repr__(self) -> str:
        methods = [name for name, value in vars(Plots).items() if callable(value) and name[0] != "_"]
        return f"<Plots of {len(tuple(self._sweep.runs))} runs: {', '.join(f'{name}()' for name in methods)}>"

    def history(self) -> Figure:
        """Draw the value of each run, and the best so far."""
        return self._draw("plot_optimization_history", target_name=self._metric)

    def importances(self, *parameters: str) -> Figure:
        """Draw the importance of each parameter for the value."""
        values = {trial.value for trial in self._study.trials if trial.state.name == "COMPLETE"}
        if len(values) < 2:
            raise UsageError("importances need two finished runs with different values, and there are none")
        return self._draw("plot_param_importances", params=self._named(parameters), target_name=self._metric)

    def parallel(self, *parameters: str) -> Figure:
        """Draw a line for each run through its parameters, coloured by its value."""
        return self._draw(
            "plot_parallel_coordinate", params=self._named(parameters), target_name=self._metric
        )

    def slice(self, *parameters: str) -> Figure:
        """Draw the value against each parameter."""
        return self._draw("plot_slice", params=self._named(parameters), target_name=self._metric)

    def contour(self, *parameters: str) -> Figure:
        """Draw the value over each pair of parameters."""
        return self._draw("plot_contour", params=self._pair(parameters), target_name=self._metric)

    def rank(self, *parameters: str) -> Figure:
        """Draw the runs over each pair of parameters, coloured by the rank of their value."""
        return self._draw("plot_rank", params=self._pair(parameters), target_name=self._metric)

    def edf(self) -> Figure:
        """Draw the distribution function of the values."""
        return self._draw("plot_edf", target_name=self._metric)

    def timeline(self) -> Figure:
        """Draw the start and end of each run, coloured by its outcome."""
        return self._draw("plot_timeline")

    def _draw(self, name: str, **options: Any) -> Figure:
        study = self._study
        figure: Figure = getattr(import_module("optuna.visualization"), name)(study, **options)
        return figure

    @property
    def _metric(self) -> str:
        return self._sweep.metric or "value"

    @cached_property
    def _study(self) -> optuna.Study:
        library("plotly", extra=EXTRA)
        return to_study(self._sweep, storage=uncopied_storage())

    def _named(self, parameters: tuple[str, ...]) -> list[str] | None:
        """Return the parameters to draw; None if no run has a value: Optuna draws nothing then."""
        points = [trial.params for trial in self._study.trials if trial.state.name == "COMPLETE"]
        if not points:
            return None
        known = list(dict.fromkeys(name for point in points for name in point))
        if unknown := [name for name in parameters if name not in known]:
            there = ", ".join(known) or "none"
            raise UsageError(f"no finished run has a parameter {unknown[0]!r}; there: {there}")
        named = list(parameters) or varying(points)
        if not named:
            raise UsageError("no parameter differs from run to run: there is nothing to draw")
        return named

    def _pair(self, parameters: tuple[str, ...]) -> list[str] | None:
        named = self._named(parameters)
        if named is not None and len(named) < 2:
            raise UsageError(f"this draws pairs of parameters, and there is only {named[0]}")
        return named

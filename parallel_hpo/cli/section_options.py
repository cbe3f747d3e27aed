"""The options of `run` that override keys of the hpo section: one for each key, made of the section itself.

They are made when `run` is called or its help is shown: reading the section costs every other
command a third of its time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

ONLY_IN_FILES: Final = frozenset({"kind", "apply", "sweep_configuration"})
"""Keys that have no option."""
_GIVEN: Final = "parallel_hpo.given"
PANELS: Final[Mapping[str, tuple[str, ...]]] = {
    "Sweep": ("count", "seed", "seed_parameter", "project", "entity", "sweep_id", "backend"),
    "Workers and devices": (
        *("workers", "devices", "workers_per_device", "devices_per_worker", "polite"),
        *("recycle_after", "start_method", "preload"),
    ),
    "Limits": (
        *("deadline", "sweep_timeout_s", "run_timeout_s", "stall_timeout_s"),
        *("memory_limit_mb", "grace_period_s"),
    ),
    "Failures": ("retries", "restart", "failures", "faults", "on_failure"),
    "Files and output": ("directory", "on_end", "notify"),
    "Batch and machines": ("machines",),
}
"""The panels of `run --help`, with the section's keys in each."""
SWEEP, _, _, _, OUTPUT, BATCH = PANELS
_PANEL_OF: Final = {key: panel for panel, keys in PANELS.items() for key in keys}
_UNITS: Final = {"_s": "SECONDS", "_mb": "MB"}


class RunCommand(TyperCommand):
    """A command that has the section's options besides its own."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Show the help in panels, though errors stay a line or two."""
        super().__init__(*arguments, **settings | {"rich_markup_mode": "rich"})

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all of its arguments and options."""
        return [*options(), *super().get_params(ctx)]


def given(context: typer.Context) -> Mapping[str, str]:
    """Return the keys that were given as options, each as text: the section checks it."""
    return {key: value for key, value in context.meta.get(_GIVEN, {}).items() if value is not None}


def _note(context: typer.Context, option: typer.CallbackParam, value: str | None) -> None:
    context.meta.setdefault(_GIVEN, {})[option.name] = value


@cache
def options() -> tuple[Any, ...]:
    """Return the options that are made of the section's keys."""
    from parallel_hpo.config.section import HpoSection, section_schema

    said = section_schema()["properties"]
    keys = [key for key in _PANEL_OF if key in HpoSection.model_fields]
    return _made_of(_parameter(key, said[key]["description"], _metavar(key, said[key])) for key in keys)


def _parameter(key: str, text: str, metavar: str) -> inspect.Parameter:
    from rich.markup import escape

    option = typer.Option(
        help=escape(text),
        metavar=metavar,
        expose_value=False,
        callback=_note,
        rich_help_panel=_PANEL_OF[key],
    )
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _made_of(parameters: Iterable[inspect.Parameter]) -> tuple[Any, ...]:
    """Return the options that Typer makes of a function's parameters."""

    def function(**_: Any) -> None:
        """Have the parameters; never called."""

    function.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    commands = typer.Typer(add_completion=False)
    commands.command()(function)
    return tuple(typer.main.get_command(commands).params)


def _metavar(key: str, said: Mapping[str, Any]) -> str:
    """Return what may stand there, as the section's JSON Schema says it."""
    unit = next((unit for ending, unit in _UNITS.items() if key.endswith(ending)), "N")
    words = dict.fromkeys(word for kind in said.get("anyOf", [said]) for word in _words(kind, unit))
    return "|".join(words)


def _words(kind: Mapping[str, Any], unit: str) -> list[str]:
    from parallel_hpo.config.section import section_schema
    from parallel_hpo.config.tables import COMMAND_FORMAT

    if "$ref" in kind:
        return _words(section_schema()["$defs"][kind["$ref"].rpartition("/")[2]], unit)
    if "const" in kind or "enum" in kind:
        return [str(word) for word in kind.get("enum", [kind.get("const")])]
    if kind.get("format") == COMMAND_FORMAT:
        return ["COMMAND"]
    match kind.get("type"):
        case "integer" | "number":
            return [unit]
        case "boolean":
            return ["true", "false"]
        case "array" if "$ref" not in kind["items"]:
            return ["A,B,…"]
        case "array" | "object":
            return ["JSON"]
        case "string":
            return ["FOLDER" if kind.get("format") == "path" else "TEXT"]
    return []

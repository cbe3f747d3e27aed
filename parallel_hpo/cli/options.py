"""Arguments and options of the commands, and how their values are read.

The options of `run` that override keys of the hpo section are made from the section itself, one for each
key. They are made when `run` is called or its help is shown: reading the section costs every other command
a third of its time.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from parallel_hpo.core.errors import TargetError, UsageError
from parallel_hpo.core.types import Target
from parallel_hpo.count.policy import Share

if TYPE_CHECKING:
    from parallel_hpo.display import Verbosity


def sweep_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of known sweeps that begin with `incomplete`, for a shell's completion."""
    from parallel_hpo.records.folders import folders_of_sweeps

    folders = folders_of_sweeps(directory_of(context.params.get("directory")))
    return [folder.name for folder in folders if folder.name.startswith(incomplete)]


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return `best` and the run ids of the sweep given before, as far as they begin with `incomplete`."""
    from parallel_hpo.core.errors import ParallelHPOError
    from parallel_hpo.records.folders import find_sweep

    try:
        known = find_sweep(directory_of(context.params.get("directory")), context.params.get("sweep") or "")
    except ParallelHPOError:
        return []
    return [name for name in ("best", *(run.run_id for run in known.runs)) if name.startswith(incomplete)]


Sweep = Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP", autocompletion=sweep_ids)]
Directory = Annotated[
    Path | None, typer.Option(help="Directory of the sweeps (default: as for run).", metavar="FOLDER")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def directory_of(given: Path | None) -> Path:
    """Return the directory in which sweeps are kept."""
    from parallel_hpo.core.folders import find_directory

    return find_directory(given, os.environ)


def verbosity_of(*, quiet: bool, verbose: bool) -> Verbosity:
    """Return the amount of output on stderr."""
    from parallel_hpo.display import Verbosity

    return Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL


def parse_slot(text: str) -> int:
    """Return a worker's slot, given as `w0` (as the display shows it) or `0`."""
    digits = text.removeprefix("w")
    if not (digits.isascii() and digits.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a worker; allowed: its slot, as 0 or w0")
    return int(digits)


_ALLOWED_TARGETS: Final = "allowed: package.module:function or file.py:function"


def parse_target(text: str, arguments: tuple[str, ...]) -> Target:
    """Return the target with its arguments, those after `--`; raises TargetError for any other form.

    Only the form is checked. A child process finds out whether it can be imported and called, before a
    sweep is created.
    """
    file, colon, function = text.rpartition(":")
    if not colon:
        raise TargetError(f"TARGET {text!r} names no function; {_ALLOWED_TARGETS}")
    if not function.isidentifier():
        raise TargetError(f"TARGET {text!r}: {function!r} is not a function name; {_ALLOWED_TARGETS}")
    if not file.endswith(".py") and not all(part.isidentifier() for part in file.split(".")):
        raise TargetError(
            f"TARGET {text!r}: {file!r} is neither a module's name nor a .py file; {_ALLOWED_TARGETS}"
        )
    return Target(file, function, arguments)


def add_working_directory_to_path() -> None:
    """Let modules be imported from the working directory, as `python -m` does; a script's path lacks it."""
    with suppress(FileNotFoundError):  # a deleted working directory; other code reports it
        here = str(Path.cwd())
        if not sys.flags.safe_path and not {here, ""} & set(sys.path):
            sys.path.insert(0, here)


_SLURM: Final = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Variables with a task's number and the number of tasks. Arrays come first: their tasks have both pairs."""


def parse_share(text: str, environment: Mapping[str, str]) -> Share:
    """Return the share that `I/N` or `slurm` names; raises UsageError for anything else."""
    if text == "slurm":
        return _slurm_share(environment)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise UsageError(f"--share {text}: allowed: I/N, such as 1/4 to 4/4, or slurm")
    return _checked_share(Share(int(match[1]), int(match[2])), f"--share {text}")


def _slurm_share(environment: Mapping[str, str]) -> Share:
    for number_name, count_name in _SLURM:
        number, count = environment.get(number_name, ""), environment.get(count_name, "")
        if number.isdigit() and count.isdigit() and int(count) > 1:
            # Arrays begin at SLURM_ARRAY_TASK_MIN (0, 1, anything) and must have no gaps; tasks begin at 0.
            first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")) if "ARRAY" in number_name else 0
            where = f"--share slurm ({number_name}={number}, {count_name}={count})"
            return _checked_share(Share(int(number) - first + 1, int(count)), where)
    raise UsageError(
        "--share slurm: this is no task of a Slurm array or of srun: neither SLURM_ARRAY_TASK_ID and"
        " SLURM_ARRAY_TASK_COUNT nor SLURM_PROCID and SLURM_NTASKS are set; give --share I/N"
    )


def _checked_share(share: Share, where: str) -> Share:
    if 1 <= share.number <= share.of:
        return share
    raise UsageError(f"{where}: share {share.number} of {share.of}; allowed: 1 to {share.of} of 1 or more")


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
"""The panels of `run --help`, and the keys of the section in each."""
SWEEP, _, _, _, OUTPUT, BATCH = PANELS
_PANEL_OF: Final = {key: panel for panel, keys in PANELS.items() for key in keys}
_UNITS: Final = {"_s": "SECONDS", "_mb": "MB"}


class RunCommand(TyperCommand):
    """A command with the options of the section besides its own."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Show the help in panels; errors stay a line or two."""
        super().__init__(*arguments, **settings | {"rich_markup_mode": "rich"})

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all arguments and options of the command."""
        return [*options(), *super().get_params(ctx)]


def given(context: typer.Context) -> Mapping[str, str]:
    """Return the keys given as options, each as text that the section checks."""
    return {key: value for key, value in context.meta.get(_GIVEN, {}).items() if value is not None}


def _remember(context: typer.Context, option: typer.CallbackParam, value: str | None) -> None:
    context.meta.setdefault(_GIVEN, {})[option.name] = value


@cache
def options() -> tuple[Any, ...]:
    """Return the options made from the keys of the section."""
    from parallel_hpo.config.section import HpoSection, section_schema

    schemas = section_schema()["properties"]
    keys = [key for key in _PANEL_OF if key in HpoSection.model_fields]
    return _options_of(_parameter(key, schemas[key]) for key in keys)


def _parameter(key: str, schema: Mapping[str, Any]) -> inspect.Parameter:
    from rich.markup import escape

    option = typer.Option(
        help=escape(schema["description"]),
        metavar=_metavar(key, schema),
        expose_value=False,
        callback=_remember,
        rich_help_panel=_PANEL_OF[key],
    )
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _options_of(parameters: Iterable[inspect.Parameter]) -> tuple[Any, ...]:
    """Return the options that Typer makes of these parameters."""

    def function(**_: Any) -> None:
        """Carry the parameters; never called."""

    function.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    commands = typer.Typer(add_completion=False)
    commands.command()(function)
    return tuple(typer.main.get_command(commands).params)


def _metavar(key: str, schema: Mapping[str, Any]) -> str:
    """Return the placeholder for a key's value, by its JSON Schema."""
    unit = next((unit for ending, unit in _UNITS.items() if key.endswith(ending)), "N")
    words = dict.fromkeys(word for kind in schema.get("anyOf", [schema]) for word in _words(kind, unit))
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

"""Allowed imports between the packages of parallel_hpo, checked on the import statements.

A package here is a module or folder directly under parallel_hpo/; a large one has inner packages.
Imports go only downwards, `import` under TYPE_CHECKING or inside a function included, and no
file imports itself through others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

PACKAGE: Final = "parallel_hpo"
ROOT: Final = Path(__file__).parents[1] / PACKAGE


def levels(text: str) -> tuple[frozenset[str], ...]:
    """Return the names on each level of a text like `top > one other > bottom`."""
    return tuple(frozenset(level.split()) for level in text.split(">"))


LEVELS: Final = levels(
    "__init__ __main__ > cli > api > display doctor upload > cluster > session > devices > processes pickling"
    " > analysis > client > worker > server > config > count > records > core"
)
"""Packages from the top level to the bottom; packages of one level don't import each other."""
LEVEL: Final = {package: level for level, packages in enumerate(LEVELS) for package in packages}
INNER_LEVELS: Final = {
    "session": levels("membership > count > outbox resume > waiting > signals > decide"),
    "server": levels(
        "http local > graphql pages > removal > services > artifacts > files > context > engines > search"
        " > store > rules > values"
    ),
    "core": levels(
        "notices server_files > pool_messages > messages child_spec folders > types keys values version"
        " > errors"
    ),
}
"""Inner packages from the top level to the bottom; a file beside them is above them all."""
FORBIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "session": frozenset({"server"}),
    "devices": frozenset({"server", "client"}),
    "processes": frozenset({"server", "client"}),
    "client": frozenset({"server"}),
    "worker": frozenset(LEVEL) - {"worker", "core"},
    "server": frozenset(LEVEL) - {"server", "config", "count", "records", "core"},
}
"""Packages below that a package may not import."""

CONFINED: Final[Mapping[str, tuple[str, ...]]] = {
    "distributed": ("cluster.dask",),
    "dask": ("cluster.dask",),
    "ray": ("cluster.ray",),
    "optuna": ("analysis",),
    "IPython": ("display.notebook",),
    "pandas": ("analysis",),
    "plotly": ("analysis.plots",),
    "pyarrow": ("analysis.frame",),
    "wandb": ("worker", "client"),
    "psutil": ("session", "devices", "processes", "doctor", "worker"),
    "pynvml": ("devices.drivers",),
    "sqlalchemy": ("server.store",),
    "sqlite3": ("server.store", "records", "analysis.study"),
}
"""Libraries that only these modules and their submodules may import."""

PURE: Final = (
    *("count", "core.types", "core.messages", "core.notices", "core.errors", "core.values", "server.rules"),
    *("devices.mask", "devices.health", "devices.sharing", "session.decide"),
)
IMPURE_LIBRARIES: Final = frozenset({"os", "signal", "time", "random", "threading", "sqlite3", "wandb"})


@dataclass(frozen=True)
class Import:
    """`importer` (a module of ours, without the package's name) imports `imported` (its full name)."""

    importer: str
    imported: str

    @property
    def package(self) -> str:
        return self.importer.partition(".")[0]

    @property
    def library(self) -> str:
        return self.imported.partition(".")[0]

    @property
    def imported_package(self) -> str | None:
        """Return the imported package, or None for a library. The bare package counts as its __init__."""
        if self.library != PACKAGE:
            return None
        name = self.imported.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]
        return name if name in LEVEL else "__init__"

    def comes_from(self, modules: tuple[str, ...]) -> bool:
        return any(self.importer == module or self.importer.startswith(f"{module}.") for module in modules)


@cache
def imports_of(root: Path) -> list[Import]:
    return [found for path in sorted(root.rglob("*.py")) for found in imports_in(path, root)]


def imports_in(path: Path, root: Path) -> Iterator[Import]:
    """Yield the imports of one file; `from package import name` counts as `package.name`."""
    parts = path.relative_to(root).with_suffix("").parts
    folder = (PACKAGE, *parts[:-1])
    importer = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(importer, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) + 1 - node.level] if node.level else ()
            source = (*start, node.module) if node.module else start
            yield from (Import(importer, ".".join((*source, alias.name))) for alias in node.names)


def goes_up(found: Import) -> bool:
    target = found.imported_package
    if target is None or target == found.package:
        return False
    return LEVEL[target] <= LEVEL[found.package]


def goes_up_inside(found: Import) -> bool:
    levels = INNER_LEVELS.get(found.package)
    if levels is None or found.imported_package != found.package:
        return False
    level = {name: number for number, names in enumerate(levels, 1) for name in names}
    importer, imported = found.importer.split("."), found.imported.split(".")[1:]
    above = level.get(importer[1], 0) if len(importer) > 1 else 0
    below = level.get(imported[1], 0) if len(imported) > 1 else 0
    return below < above or (below == above and importer[:2] != imported[:2] and above > 0)


def import_cycle(root: Path) -> list[str] | None:
    """Return files that import each other in a cycle, or None."""
    files = {".".join(path.relative_to(root).with_suffix("").parts) for path in root.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for found in imports_of(root):
        name = found.imported.removeprefix(f"{PACKAGE}.")
        target = name if name in files else name.rpartition(".")[0]
        if target in files:
            graph.setdefault(found.importer, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return None


def test_every_module_has_a_level() -> None:
    packages = {
        path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert packages - set(LEVEL) == set()


def test_imports_go_only_downwards() -> None:
    assert [found for found in imports_of(ROOT) if goes_up(found)] == []


def test_imports_within_a_package_go_only_downwards() -> None:
    assert [found for found in imports_of(ROOT) if goes_up_inside(found)] == []


def test_there_is_no_import_cycle(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from parallel_hpo import b")
    (tmp_path / "b.py").write_text("def late():\n    from parallel_hpo.a import name")
    assert import_cycle(tmp_path) is not None
    assert import_cycle(ROOT) is None


def test_public_class_names_are_unique() -> None:
    """A name means one class to a reader; names that begin with _ are private to their file."""
    classes: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in classes.items() if len(files) > 1} == {}


def test_no_package_imports_one_that_is_forbidden_to_it() -> None:
    nobody: frozenset[str] = frozenset()
    assert [f for f in imports_of(ROOT) if f.imported_package in FORBIDDEN.get(f.package, nobody)] == []


def test_a_confined_library_is_imported_only_by_its_modules() -> None:
    confined = [found for found in imports_of(ROOT) if found.library in CONFINED]
    assert [found for found in confined if not found.comes_from(CONFINED[found.library])] == []


def test_pure_modules_import_no_library_with_side_effects() -> None:
    pure = [found for found in imports_of(ROOT) if found.comes_from(PURE)]
    assert [found for found in pure if found.library in IMPURE_LIBRARIES] == []


def test_every_form_of_upward_import_is_detected_and_others_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "count").mkdir()
    (tmp_path / "count" / "restart.py").write_text(
        "import parallel_hpo.cli\n"
        "from parallel_hpo import server\n"
        "from ..session.loop import run\n"
        "from .. import HPO\n"
        "def late():\n    from parallel_hpo.config import section\n"
        "import json\n"
        "from parallel_hpo.core.types import RunId\n"
        "from . import backoff\n"
        "from .backoff import delay\n"
    )
    found = [each.imported_package for each in imports_of(tmp_path) if goes_up(each)]
    assert sorted(found, key=str) == ["__init__", "cli", "config", "server", "session"]

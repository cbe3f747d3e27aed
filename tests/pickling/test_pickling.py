"""Sending a `main` to workers and machines: what can be pickled, and the one file that is sent with it."""

from __future__ import annotations

import functools
import os
import pickle
import sys
import threading
import types
from base64 import b64decode
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Program, Target
from parallel_hpo.pickling.main import FILE, keep, kept_in, pack_main
from parallel_hpo.pickling.payload import MOST_FILE_BYTES, from_text, install_main, to_text

FACTOR = 2


def round_trip(main: Callable[[], object]) -> Any:
    """Return the callable as a worker unpickles it."""
    packed = packed_main(main)
    assert isinstance(packed, PickledMain)
    assert isinstance(packed.payload, bytes)
    return pickle.loads(packed.payload)[0]


def packed_main(main: Any) -> Any:
    with ExitStack() as stack:
        return pack_main(main, stack)


def returns_its_factor() -> int:
    return FACTOR


class Trainer:
    def __init__(self, resource: object) -> None:
        self.resource = resource

    def train(self) -> object:
        return self.resource

    def __call__(self) -> object:
        return self.resource


def test_a_callable_is_pickled_with_everything_that_it_uses() -> None:
    rate = {"lr": 0.1}

    def nested() -> dict[str, float]:
        return rate

    mains = (returns_its_factor, lambda: FACTOR + 1, nested, Trainer("data").train, Trainer("data"))
    assert [round_trip(main)() for main in mains] == [2, 3, rate, "data", "data"]


class Config(types.ModuleType):
    """A module of its own class that can't be pickled, as torch's configuration modules."""

    lock = threading.Lock()


def test_an_unpicklable_submodule_is_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    package, config = types.ModuleType("strange"), Config("strange.config")
    vars(package).update({"config": config, "__path__": []})
    for module in (package, config):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def asks(run: Any = None) -> object:
        return run.config if run else package

    assert round_trip(asks)() is package
    assert round_trip(lambda: config)() is config


def test_a_target_is_sent_by_name() -> None:
    target = Target("train.py", "main", ("--fast",))
    assert packed_main(target) is target


def main_of(source: str) -> Any:
    """Return the `main` of a script that has a lock `pool`."""
    scope: dict[str, Any] = {"__name__": "__main__", "pool": threading.Lock(), "fine": 1}
    exec(source, scope)
    return scope["main"]


def main_with_enclosed_locks() -> Callable[[], object]:
    one, two = threading.Lock(), threading.Event()
    later = 1

    def main() -> object:
        return one, two, later  # noqa: F821 - a variable that has no value yet

    del later
    return main


class Stubborn:
    def __reduce__(self) -> str:
        raise RuntimeError("I stay here")

    def __call__(self) -> None: ...


LOCK: Final = threading.Lock()
NESTED: Final = """
class Trainer:
    guard = pool
    def fit(self): return pool
def helper(): return Trainer().fit()
def main(): return helper()
"""


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (main_with_enclosed_locks(), "main can't .* enclosed variable 'one' is a lock; .*'two' is a Event"),
        (main_with_enclosed_locks(), "create it inside the function, so that each worker has its own"),
        (main_of("def main(): return pool, fine"), "its global 'pool' is a lock, which"),
        (main_of(NESTED), "'guard' is a lock; Trainer.fit's global 'pool' is a lock, which"),
        (functools.partial(print, LOCK, data=LOCK), "argument number 1 is a lock; .* 'data' is a lock"),
        (lambda lock=LOCK: lock, "its default number 1 is a lock"),
        (Trainer(LOCK).train, "train can't be sent .*: the object that it is a method of is a Trai"),
        (Stubborn(), "can't be sent to the workers: I stay here"),
        (42, "main is a int, not a function: give one without arguments"),
    ],
)
def test_an_unpicklable_main_is_refused_with_the_cause_and_advice(main: Any, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        packed_main(main)


def test_a_function_of_a_module_with_locks_is_sent_by_name() -> None:
    import tempfile  # has a lock among its globals

    assert isinstance(packed_main(tempfile.gettempdir), PickledMain)


MAIN = "def main(): ..."
NAMES = [Target("code/train.py", "main", ("--fast",)), Program("code/train.py", ("${program}", "${args}"))]


@pytest.fixture
def text(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A named main packed where its file exists; afterwards, the working folder is empty."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text(MAIN)
    monkeypatch.chdir(tmp_path)
    packed = to_text(request.param)
    (tmp_path / "machine").mkdir()
    monkeypatch.chdir(tmp_path / "machine")
    return packed


@pytest.mark.parametrize("text", NAMES, indirect=True)
def test_a_machine_without_the_file_gets_it_in_its_sweep_folder(text: str, tmp_path: Path) -> None:
    for _ in range(2):  # as by a second machine with the same folder
        found = install_main(from_text(text), Path("sweeps/abc"))
    assert isinstance(found, Target | Program)
    place = tmp_path / "machine/sweeps/abc/main/train.py"
    assert found.file == str(place)
    assert place.read_text() == MAIN
    assert os.access(place, os.X_OK)
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize("text", NAMES, indirect=True)
def test_a_machine_with_a_file_of_the_same_name_uses_its_own(text: str) -> None:
    Path("code").mkdir()
    Path("code/train.py").write_text("def main(): return 1")
    assert install_main(from_text(text), Path("sweeps")) in NAMES
    assert not Path("sweeps").exists()


@pytest.mark.parametrize(
    "main", [Target("train", "main"), Target("no.py", "main"), Program(""), Program("big")]
)
def test_a_file_that_is_missing_too_large_or_no_source_is_sent_by_name_alone(
    main: Target | Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big").write_bytes(bytes(MOST_FILE_BYTES + 1))
    (tmp_path / "train").touch()
    monkeypatch.chdir(tmp_path)
    assert from_text(to_text(main)) == main


TARGET = (
    "gASVQwAAAAAAAACMEnBhcmFsbGVsX2hwby53b3Jkc5SMBlRhcmdldJSTlCmBlF2UKIwFdHJhaW6UjARtYWlulIwGLS1mYXN0lIWUZWIu"
)
PROGRAM = (
    "gASVQQAAAAAAAACMEnBhcmFsbGVsX2hwby53b3Jkc5SMB1Byb2dyYW2Uk5QpgZRdlCiMCHRyYWluLnB5lIwHJHthcmdzfZSFlGViLg=="
)
PICKLED = (
    "gASVcwAAAAAAAACMGnBhcmFsbGVsX2hwby5wcm90b2NvbC5zcGVjlIwLUGlja2xlZE1haW6Uk5QpgZRdlChDAXiUaACMBlNjcmlw"
    "dJSTlCmBlF2UKCl9lIwAlGgAjARSZXN0lJOUKYGUXZQoKJGUQwCUiX2UZWJlYksAZWIu"
)
"""Made by the version before the packages were renamed."""


@pytest.mark.parametrize(
    ("text", "main"),
    [(TARGET, Target("train", "main", ("--fast",))), (PROGRAM, Program("train.py", ("${args}",)))],
)
def test_a_named_main_of_an_earlier_release_is_read(text: str, main: Target | Program) -> None:
    assert from_text(text) == main


def test_a_pickled_main_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / FILE).write_bytes(b64decode(PICKLED))
    assert kept_in(tmp_path) == PickledMain(b"x")


def test_a_stored_main_is_readable_only_by_its_user(tmp_path: Path) -> None:
    assert keep(PickledMain(b"x"), tmp_path, secrets=()) is None
    assert kept_in(tmp_path) == PickledMain(b"x")
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0

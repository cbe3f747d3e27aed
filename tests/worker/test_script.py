"""A script's definitions in a process that has not run the script."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.child_spec import PickledMain, SharedMemory
from parallel_hpo.pickling.main import pack_main, weight_problem
from tests.commands import start_python

BE_A_WORKER: Final = """
import json, pickle
from pathlib import Path
from parallel_hpo.worker.target import load_main
main = load_main(pickle.loads(Path("main.pickle").read_bytes()))
print(json.dumps(main()))
"""

Travel = Callable[..., Any]
Worker = Callable[[PickledMain], Any]


class Travelled:
    """A pickled `main` of a script, called in other processes."""

    def __init__(self, source: str, stack: ExitStack, worker: Worker, **facts: Any) -> None:
        self._worker = worker
        self.names: dict[str, Any] = {"__name__": "__main__", **facts}
        exec(compile(source, facts.get("__file__", "<stdin>"), "exec"), self.names)
        packed = pack_main(self.names["main"], stack)
        assert isinstance(packed, PickledMain)
        self.packed = packed

    def call(self) -> Any:
        """Return what `main` returns in a process of its own."""
        return self._worker(self.packed)


@pytest.fixture
def travel(tmp_path: Path) -> Iterator[Travel]:
    """Run a script and pickle its `main`; what it shares is released at the end."""

    def call(packed: PickledMain) -> Any:
        (tmp_path / "main.pickle").write_bytes(pickle.dumps(packed))
        (tmp_path / "worker.py").write_text(BE_A_WORKER)
        process = start_python("worker.py", folder=tmp_path, environment=os.environ)
        stdout, stderr = process.communicate(timeout=60)
        assert process.wait() == 0, stderr
        return json.loads(stdout)

    made: list[Travelled] = []
    with ExitStack() as stack:

        def travel(source: str, **facts: Any) -> Travelled:
            made.append(Travelled(source, stack, call, **facts))
            return made[-1]

        yield travel
    for payload in (each.packed.payload for each in made):
        assert isinstance(payload, bytes) or not Path(payload.path).exists()


def test_the_functions_of_a_script_share_its_globals(travel: Travel) -> None:
    source = """
counter = 0
def bump():
    global counter
    counter += 1
def main():
    bump()
    bump()
    import __main__
    return counter, __main__.counter
"""
    assert travel(source).call() == [2, 2]


def test_objects_that_main_uses_keep_their_identity_after_pickling(travel: Travel) -> None:
    source = """
import pickle
class Outer:
    class Inner: pass
class Known: pass
def one(): ...
CONSTANTS = [Outer.Inner(), one]
def main():
    found = [Known, one, type(CONSTANTS[0]), CONSTANTS[1]]
    return [pickle.loads(pickle.dumps(thing)) is thing for thing in found]
"""
    assert travel(source).call() == [True] * 4


def test_other_definitions_are_loaded_on_first_use(travel: Travel) -> None:
    source = """
import pickle, sys
counter, shared = 0, []
class Base: pass
class Model(Base):
    def use(self): return counter, shared
def main():
    global counter
    counter = 5
    shared.append(1)
    model = pickle.loads(b"c__main__\\nModel\\n.")
    there = vars(sys.modules["__main__"])
    return list(model().use()), counter, issubclass(model, Base), model.use.__globals__ is there
"""
    assert travel(source).call() == [[5, [1]], 5, True, True]


def test_unpicklable_definitions_that_main_does_not_use_are_left_out(travel: Travel) -> None:
    source = """
import threading
lock, large = threading.Lock(), bytes(10_000_000)
def uses_lock(): return lock
def uses_large(): return large
def harmless(): return 1
def main():
    import __main__
    said = []
    for name in ("uses_lock", "uses_large", "lock"):
        try:
            getattr(__main__, name)
        except AttributeError as error:
            said.append(str(error))
    return __main__.harmless(), said
"""
    travelled = travel(source)
    assert travelled.packed.size < 10_000
    assert len(travelled.packed.script.rest.payload) < 10_000
    one, (lock, large, unknown) = travelled.call()
    assert one == 1
    assert "no attribute 'uses_lock': the script's own did not travel to this worker (TypeError" in lock
    assert large.endswith("(it refers to data that main does not use)")
    assert unknown.endswith("has no attribute 'lock'")


BY_GLOBALS: Final = """
def small(): return 1
RATE = 2
def main(): return globals()['small'](), globals()['RATE']
"""
BY_ANNOTATIONS: Final = """
import dataclasses, typing
class Inner: ...
@dataclasses.dataclass
class Outer:
    inner: 'Inner | None' = None
def main(): return sorted(typing.get_type_hints(Outer))
"""
UNUSED: Final = """
import argparse, sys
import wave
def convert(): return wave.open
class Model:
    def eval(self): ...
def main():
    Model().eval()
    vars(argparse.Namespace())
    return "wave" in sys.modules
"""


@pytest.mark.parametrize(
    ("source", "answer"), [(BY_GLOBALS, [1, 2]), (BY_ANNOTATIONS, ["inner"]), (UNUSED, False)]
)
def test_names_that_main_looks_up_by_text_are_loaded_and_unused_ones_are_not(
    travel: Travel, source: str, answer: object
) -> None:
    assert travel(source).call() == answer


def test_objects_that_cloudpickle_refuses_are_pickled(travel: Travel) -> None:
    source = """
import dataclasses, functools, typing
UserId = typing.NewType("UserId", int)
@functools.lru_cache(maxsize=None)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
@functools.singledispatch
def kind(thing): return "thing"
@kind.register
def _(thing: list): return [kind(one) for one in thing]
class Model:
    @functools.cached_property
    def weights(self): return [1]
@dataclasses.dataclass
class Config:
    user: UserId
    tags: list = dataclasses.field(default_factory=list)
def main():
    model = Model()
    missing = dataclasses.fields(Config)[0].default is dataclasses.MISSING
    return fibonacci(30), kind([1, 2]), model.weights is model.weights, missing, Config(UserId(3)).user
"""
    assert travel(source).call() == [832040, ["thing", "thing"], True, True, 3]


def test_a_script_has_its_file_and_its_arguments(travel: Travel, tmp_path: Path) -> None:
    source = '''"""Trains."""
import inspect, sys
def main():
    module = sys.modules["__main__"]
    spec = module.__spec__
    return __doc__, module.__file__, spec and spec.name, sys.argv, inspect.getsource(main)
'''
    file = tmp_path / "train.py"
    file.write_text(source)
    answer = travel(source, __file__=str(file), __doc__="Trains.").call()
    assert answer[:4] == ["Trains.", str(file), None, sys.argv]
    assert answer[4].startswith("def main():")


def test_a_large_array_is_shared_until_a_worker_writes_to_it(travel: Travel) -> None:
    source = """
import numpy
data = numpy.arange(8_000_000)
def main():
    data[0] += 1
    return int(data[0]), int(data[-1]), bool(data.flags.aligned)
"""
    travelled = travel(source)
    main = travelled.packed
    assert isinstance(main.payload, SharedMemory)
    assert len(pickle.dumps(main)) < 10_000
    assert [travelled.call(), travelled.call()] == [[1, 7_999_999, True]] * 2
    said = weight_problem(travelled.names["main"], main)
    assert said is not None
    assert said.startswith("main takes 64 MB with all that it uses (data 64 MB), and every worker")
    assert said.endswith("load such data inside the function, from a file")


def test_a_large_list_is_shared_without_a_warning(travel: Travel) -> None:
    source = """
rows = [str(n) for n in range(1_000_000)]
def helper(): return rows
def main(): return len(helper())
"""
    travelled = travel(source)
    assert isinstance(travelled.packed.payload, SharedMemory)
    assert Path(travelled.packed.payload.path).exists()
    assert travelled.call() == 1_000_000
    assert weight_problem(travelled.names["main"], travelled.packed) is None

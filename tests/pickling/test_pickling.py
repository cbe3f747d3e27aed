from __future__ import annotations

import functools
import pickle
import sys
import threading
import types
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Target
from parallel_hpo.pickling.main import pack_main

FACTOR = 2


def travelled(main: Callable[[], object]) -> Any:
    """The callable as it arrives at a worker."""
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


def test_a_function_of_a_module_can_travel() -> None:
    assert travelled(returns_its_factor)() == 2


def test_a_lambda_can_travel() -> None:
    assert travelled(lambda: FACTOR + 1)() == 3


def test_a_nested_function_takes_its_closure_along() -> None:
    rate = {"lr": 0.1}

    def main() -> dict[str, float]:
        return rate

    assert travelled(main)() == {"lr": 0.1}


def test_a_method_takes_its_object_along() -> None:
    assert travelled(Trainer("data").train)() == "data"


def test_a_callable_object_can_travel() -> None:
    assert travelled(Trainer("data"))() == "data"


class Config(types.ModuleType):
    """As torch's modules of configurations are: of a class of their own, which can't be pickled."""

    lock = threading.Lock()


def test_a_submodule_that_is_no_plain_module_is_imported_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    package, config = types.ModuleType("strange"), Config("strange.config")
    vars(package).update({"config": config, "__path__": []})
    for module in (package, config):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def asks(run: Any = None) -> object:
        return run.config if run else package

    assert travelled(asks)() is package
    assert travelled(lambda: config)() is config


def test_a_target_goes_by_its_name() -> None:
    target = Target("train.py", "main", ("--fast",))
    assert packed_main(target) is target


def test_an_enclosed_lock_is_named() -> None:
    lock = threading.Lock()

    def main() -> None:
        with lock:
            pass

    with pytest.raises(TargetError, match=r"main can't be sent .* its enclosed variable 'lock' is a lock"):
        packed_main(main)


def test_the_error_says_what_to_do() -> None:
    lock = threading.Lock()
    with pytest.raises(TargetError, match="create it inside the function, so that each worker has its own"):
        packed_main(lambda: lock.locked())


def test_a_global_that_cannot_be_pickled_is_named() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "pool": threading.Lock(), "fine": 1}
    exec("def main():\n    return pool, fine", scope)
    with pytest.raises(TargetError) as refused:
        packed_main(scope["main"])
    assert "its global 'pool' is a lock" in str(refused.value)
    assert "fine" not in str(refused.value)


def test_a_culprit_is_named_where_it_is_used_and_not_where_that_is_called() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "pool": threading.Lock()}
    source = """
class Trainer:
    guard = pool
    def fit(self): return pool
def helper(): return Trainer().fit()
def main(): return helper()
"""
    exec(source, scope)
    with pytest.raises(TargetError) as refused:
        packed_main(scope["main"])
    assert "Trainer's attribute 'guard' is a lock; Trainer.fit's global 'pool' is a lock, which" in str(
        refused.value
    )


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TargetError, match="its argument number 1 is a lock; its argument 'data' is a lock"):
        packed_main(functools.partial(print, threading.Lock(), data=threading.Lock()))


def test_a_module_that_is_imported_by_name_may_hold_what_it_likes() -> None:
    import tempfile  # has a lock among its globals

    assert isinstance(packed_main(tempfile.gettempdir), PickledMain)


def test_a_default_that_cannot_be_pickled_is_named() -> None:
    def main(lock: Any = threading.Lock()) -> None:  # noqa: B008 - that is the point
        pass

    with pytest.raises(TargetError, match="its default number 1 is a lock"):
        packed_main(main)


def test_an_object_whose_method_cannot_travel_is_named() -> None:
    with pytest.raises(
        TargetError, match=r"train can't be sent .*: the object that it is a method of is a Trai"
    ):
        packed_main(Trainer(threading.Lock()).train)


def test_all_culprits_are_named_at_once() -> None:
    one, two = threading.Lock(), threading.Event()

    def main() -> object:
        return one, two

    with pytest.raises(TargetError, match=r"'one' is a lock; .*'two' is a Event"):
        packed_main(main)


def test_a_culprit_is_named_beside_a_variable_that_has_no_value_yet() -> None:
    lock = threading.Lock()

    def main() -> object:
        return lock, later

    with pytest.raises(TargetError, match="'lock' is a lock"):
        packed_main(main)
    later = 1


def test_what_refuses_to_be_pickled_says_why_itself() -> None:
    class Stubborn:
        def __reduce__(self) -> str:
            raise RuntimeError("I stay here")

        def __call__(self) -> None: ...

    with pytest.raises(TargetError, match="can't be sent to the workers: I stay here"):
        packed_main(Stubborn())


def test_what_cannot_be_called_is_no_main() -> None:
    not_a_function: Any = 42
    with pytest.raises(TargetError, match="main is a int, not a function: give one without arguments"):
        packed_main(not_a_function)

"""Loading of targets, each in its own process, since it changes `sys`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.pickling.main import pack_main
from parallel_hpo.worker.target import load_main, main_problem
from tests.commands import start_python

ASK: Final = """
import json, sys
from parallel_hpo.core.types import Target
from parallel_hpo.worker.target import load_main, main_problem
target = Target(sys.argv[1], sys.argv[2], tuple(sys.argv[3:]))
unfit = main_problem(target)
print(json.dumps({"unfit": unfit, "returned": None if unfit else load_main(target)()}))
"""

Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path, clean_env: dict[str, str]) -> Ask:
    """Load a target beside a `train.py` with this source; return its problem or its value."""

    def call(source: str, *target: str, fit: bool = True) -> Any:
        for name, text in {**FILES, "train.py": source, "ask.py": ASK}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        environment = clean_env | {"PARALLEL_HPO_MARK": "test"}
        asked = start_python("ask.py", *(target or TRAIN), folder=tmp_path, environment=environment)
        stdout, stderr = asked.communicate(timeout=60)
        assert asked.wait() == 0, stderr
        answer = json.loads(stdout.splitlines()[-1])
        assert fit is not bool(answer["unfit"]), answer
        return answer["returned"] if fit else answer["unfit"]

    return call


FILES: Final = {
    "package/deep.py": "def main(): return __name__",
    "elsewhere/beside.py": "ANSWER = 42",
    "elsewhere/run.py": "import beside\ndef main(): return beside.ANSWER",
    "bad.py": "\n\nraise ValueError('no data')",
}
"""Files beside the target's."""
TRAIN: Final = ("train.py", "main")
NAME: Final = "def main(): return __name__\nif __name__ == '__main__': raise SystemExit(9)"


@pytest.mark.parametrize(
    ("source", "target", "returned"),
    [
        ("def main(): return 42", TRAIN, 42),
        ("def fit(): return 42", ("train", "fit"), 42),
        ("", ("package.deep", "main"), "package.deep"),
        ("", ("elsewhere/run.py", "main"), 42),  # finds the module beside it
        (NAME, TRAIN, "train"),
        ("import sys\ndef main(): return sys.argv[1:]", (*TRAIN, "--lr", "1"), ["--lr", "1"]),
        ("import sys\ndef main(): return sys.argv[0].endswith('/train.py')", TRAIN, True),
        ("def main(a=1, *rest, b=2, **more): return a + b", TRAIN, 3),
    ],
)
def test_a_function_of_a_file_or_a_module_is_found(
    ask: Ask, source: str, target: tuple[str, ...], returned: object
) -> None:
    assert ask(source, *target) == returned


NONE_THERE: Final = "train.py has no 'main'; it has: "
CANT: Final = "train.py:main can't be loaded in a worker: "


@pytest.mark.parametrize(
    ("source", "target", "begins", "ends"),
    [
        ("def main(config, *, lr): ...", TRAIN, "train.py:main(config, *, lr) can't be called with", ""),
        ("def a(): ...\ndef b(): ...\ndef _c(): ...\nV = 1", TRAIN, NONE_THERE, "it has: a, b"),
        ("VALUE = 1", TRAIN, NONE_THERE, "it has: nothing to call"),
        ("main = 42", TRAIN, "train.py:main is a int, not a function: give one without arguments", ""),
        ("", ("nowhere.py", "main"), "nowhere.py: no such file", ""),
        ("", ("no_such_module", "main"), "no_such_module:main can't be loaded in a worker: ModuleNotF", ""),
        ("x = 1\n\nimport nonsuch\n", TRAIN, f"{CANT}ModuleNotFoundError: No module", "train.py, line 3)"),
        ("import bad", TRAIN, f"{CANT}ValueError: no data", "bad.py, line 3)"),
        ("raise SystemExit(3)", TRAIN, f"{CANT}SystemExit: 3", ""),
        ("x = 1\ndef main(:\n", TRAIN, f"{CANT}SyntaxError", "train.py, line 2)"),
    ],
)
def test_a_target_that_cannot_be_loaded_or_called_is_reported_with_its_line(
    ask: Ask, source: str, target: tuple[str, ...], begins: str, ends: str
) -> None:
    problem = ask(source, *target, fit=False)
    assert problem.startswith(begins)
    assert problem.endswith(ends)


def pack(main: Callable[..., object]) -> PickledMain:
    with ExitStack() as stack:
        packed = pack_main(main, stack)
    assert isinstance(packed, PickledMain)
    return packed


def test_a_pickled_main_is_loaded_or_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # to be restored
    monkeypatch.setattr(sys, "argv", sys.argv)

    class Refuses:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (int, ("no number",))

        def __call__(self) -> None: ...

    main = pack(lambda: 42)
    assert main_problem(main) is None
    assert load_main(main)() == 42
    assert load_main(pack(dict))() == {}  # a function written in C
    with pytest.raises(TargetError, match=r"<lambda>\(lr\) can't be called without arguments"):
        load_main(pack(lambda lr: lr))
    problem = main_problem(pack(Refuses()))
    assert problem is not None
    assert problem.startswith("main can't be loaded in a worker: ValueError: invalid literal for int()")


CONFIGURED: Final = """
from parallel_hpo import ConfigLoader
def main(): return repr(hpo), repr(loader.hpo), repr(copy), after
loader = ConfigLoader("config.json")
hpo = copy = loader.hpo
after = "not yet"
"""


def test_loading_a_file_runs_neither_main_nor_the_code_after_optimize(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    snippet = "if hpo is None: main(1)\nelse:\n    hpo.optimize(main)\n    raise SystemExit(hpo)\n"
    assert ask(CONFIGURED + snippet) == ["None", "None", "None", "not yet"]
    assert ask(CONFIGURED + snippet, "train", "main") == ["None", "None", "None", "not yet"]


def test_a_module_that_a_target_imports_is_loaded_completely(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "beside.py").write_text(f"{CONFIGURED}after = hpo.optimize(main).attempted")
    assert ask("import beside\ndef main(): return beside.main()") == ["None", "None", "None", 0]

"""Loading of targets, each in its own process, since it changes `sys`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Target
from parallel_hpo.pickling.main import pack_main
from parallel_hpo.worker.target import load_main, main_problem
from tests.commanding import CommandLine

ASK: Final = """
import json, sys
from parallel_hpo.core.types import Target
from parallel_hpo.worker.target import load_main, main_problem
target = Target(sys.argv[1], sys.argv[2], tuple(sys.argv[3:]))
unfit = main_problem(target)
print(json.dumps({"unfit": unfit, "returned": None if unfit else load_main(target)()}))
"""

StopRequest = Callable[..., Any]
Pack = Callable[[Callable[..., object]], PickledMain]


@pytest.fixture
def ask(tmp_path: Path, clean_env: dict[str, str], commands: CommandLine) -> StopRequest:
    """Load a target beside a `train.py` with this source; return its problem or its value."""

    def call(source: str, *target: str, fit: bool = True) -> Any:
        (tmp_path / "train.py").write_text(source)
        (tmp_path / "ask.py").write_text(ASK)
        environment = clean_env | {"PARALLEL_HPO_MARK": "test"}
        asked = commands.python(
            "ask.py", *(target or ("train.py", "main")), folder=tmp_path, environment=environment
        )
        stdout, stderr = asked.communicate(60)
        assert asked.wait() == 0, stderr
        answer = json.loads(stdout.splitlines()[-1])
        assert fit is not bool(answer["unfit"]), answer
        return answer["returned"] if fit else answer["unfit"]

    return call


@pytest.fixture
def pack() -> Iterator[Pack]:
    """Pickle a function; this process is restored."""
    script, argv = sys.modules["__main__"], sys.argv
    with ExitStack() as stack:

        def call(main: Callable[..., object]) -> PickledMain:
            packed = pack_main(main, stack)
            assert isinstance(packed, PickledMain)
            return packed

        yield call
    sys.modules["__main__"], sys.argv = script, argv


def test_a_function_of_a_file_is_found(ask: StopRequest) -> None:
    assert ask("def main(): return 42") == 42


def test_a_function_of_a_module_is_found(ask: StopRequest) -> None:
    assert ask("def fit(): return 42", "train", "fit") == 42


def test_a_function_of_a_module_in_a_package_is_found(ask: StopRequest, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "deep.py").write_text("def main(): return __name__")
    assert ask("", "package.deep", "main") == "package.deep"


def test_a_file_finds_the_modules_beside_it(ask: StopRequest, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "beside.py").write_text("ANSWER = 42")
    (tmp_path / "elsewhere" / "run.py").write_text("import beside\ndef main(): return beside.ANSWER")
    assert ask("", "elsewhere/run.py", "main") == 42


def test_a_file_is_imported_under_its_own_name_and_not_as_main(ask: StopRequest) -> None:
    assert ask("def main(): return __name__\nif __name__ == '__main__': raise SystemExit(9)") == "train"


def test_a_target_gets_its_arguments_in_argv(ask: StopRequest) -> None:
    words = ask("import sys\nargv = list(sys.argv)\ndef main(): return argv", "train.py", "main", "--lr", "1")
    assert words[1:] == ["--lr", "1"]
    assert words[0].endswith("train.py")


def test_a_function_whose_arguments_have_defaults_is_accepted(ask: StopRequest) -> None:
    assert ask("def main(a=1, *rest, b=2, **more): return a + b") == 3


def test_a_function_with_required_arguments_is_refused(ask: StopRequest) -> None:
    why = ask("def main(config, *, lr): ...", fit=False)
    assert why.startswith(
        "train.py:main(config, *, lr) can't be called without arguments: missing a required"
    )


def test_a_missing_function_is_named_with_the_existing_ones(ask: StopRequest) -> None:
    source = "def train(): ...\ndef evaluate(): ...\ndef _private(): ...\nVALUE = 1"
    why = ask(source, "train.py", "main", fit=False)
    assert why == "train.py has no 'main'; it has: train, evaluate"


def test_a_file_without_any_function_says_so(ask: StopRequest) -> None:
    assert ask("VALUE = 1", fit=False) == "train.py has no 'main'; it has: nothing to call"


def test_a_name_that_is_no_function_is_refused(ask: StopRequest) -> None:
    why = ask("main = 42", fit=False)
    assert why == "train.py:main is a int, not a function: give one without arguments"


def test_a_missing_file_is_named(ask: StopRequest) -> None:
    assert ask("", "nowhere.py", "main", fit=False) == "nowhere.py: no such file"


def test_a_missing_module_is_named(ask: StopRequest) -> None:
    why = ask("", "no_such_module", "main", fit=False)
    assert why.startswith("no_such_module:main can't be loaded in a worker: ModuleNotFoundError: No module")


def test_a_failed_import_is_named_with_file_and_line(ask: StopRequest, tmp_path: Path) -> None:
    why = ask("x = 1\n\nimport no_such_module\n", fit=False)
    assert "train.py:main can't be loaded in a worker: ModuleNotFoundError: No module named" in why
    assert why.endswith(f"({tmp_path / 'train.py'}, line 3)")


def test_an_error_in_a_file_is_named_with_the_users_innermost_line(ask: StopRequest, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("\n\nraise ValueError('no data')")
    why = ask("import beside", fit=False)
    assert why.endswith(f"ValueError: no data ({tmp_path / 'beside.py'}, line 3)")


def test_a_file_that_exits_is_refused(ask: StopRequest) -> None:
    assert "SystemExit: 3" in ask("raise SystemExit(3)", fit=False)


def test_a_syntax_error_is_named_with_its_line(ask: StopRequest) -> None:
    why = ask("x = 1\ndef main(:\n", fit=False)
    assert "SyntaxError" in why
    assert "train.py, line 2" in why


def test_a_pickled_main_is_loaded(pack: Pack) -> None:
    main = pack(lambda: 42)
    assert main_problem(main) is None
    assert load_main(main)() == 42


def test_a_pickled_main_with_required_arguments_is_refused(pack: Pack) -> None:
    with pytest.raises(TargetError, match=r"<lambda>\(lr\) can't be called without arguments"):
        load_main(pack(lambda lr: lr))


def test_a_pickled_main_that_cannot_be_loaded_is_named_with_the_error(pack: Pack) -> None:
    class Refuses:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (int, ("no number",))

        def __call__(self) -> None: ...

    problem = main_problem(pack(Refuses()))
    assert problem is not None
    assert problem.startswith("main can't be loaded in a worker: ValueError: invalid literal for int()")


def test_a_function_written_in_c_is_accepted(pack: Pack) -> None:
    assert load_main(pack(dict))() == {}


CONFIGURED: Final = """
from parallel_hpo import ConfigLoader
def main(): return repr(hpo), repr(loader.hpo), repr(copy), after
loader = ConfigLoader("config.json")
hpo = copy = loader.hpo
after = "not yet"
"""


def test_loading_a_file_calls_neither_main_nor_what_follows_optimize(
    ask: StopRequest, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    snippet = "if hpo is None: main(1)\nelse:\n    hpo.optimize(main)\n    raise SystemExit(hpo)\n"
    assert ask(CONFIGURED + snippet) == ["None", "None", "None", "not yet"]
    assert ask(CONFIGURED + snippet, "train", "main") == ["None", "None", "None", "not yet"]


def test_a_module_that_a_target_imports_is_loaded_completely(ask: StopRequest, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "beside.py").write_text(f"{CONFIGURED}after = hpo.optimize(main).attempted")
    assert ask("import beside\ndef main(): return beside.main()") == ["None", "None", "None", 0]


def test_a_target_is_named_by_file_and_function() -> None:
    assert str(Target("train.py", "main")) == "train.py:main"

"""A `main` that an earlier version kept, in a sweep's folder or in a pool, is still read."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.types import Program, Target
from parallel_hpo.pickling.main import FILE, kept_in
from parallel_hpo.pickling.payload import from_text

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


def test_a_named_main_in_a_pool_is_read() -> None:
    assert from_text(TARGET) == Target("train", "main", ("--fast",))
    assert from_text(PROGRAM) == Program("train.py", ("${args}",))


def test_a_pickled_main_in_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / FILE).write_bytes(b64decode(PICKLED))
    assert kept_in(tmp_path) == PickledMain(b"x")

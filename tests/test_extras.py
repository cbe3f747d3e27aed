from __future__ import annotations

import numpy
import pytest

from parallel_hpo import MissingExtraError
from parallel_hpo.core.version import library


def test_a_library_that_is_there_is_returned() -> None:
    assert library("numpy", extra="pandas", at_least=1) is numpy


def test_one_that_is_too_old_is_asked_for_anew() -> None:
    with pytest.raises(
        MissingExtraError, match=f"needs numpy 99 or newer, and {numpy.__version__} is installed"
    ):
        library("numpy", extra="plots", at_least=99)


def test_one_that_is_missing_is_an_import_error_too() -> None:
    with pytest.raises(ImportError, match=r"pip install 'parallel_hpo\[plots\]'"):
        library("no_such_library", extra="plots")

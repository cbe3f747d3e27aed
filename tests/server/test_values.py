from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.values import strict
from parallel_hpo.server.values import RefusedError, merge_history_keys, read_object, sample, step_of


@given(
    st.recursive(
        st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_strict_values_are_valid_json(value: Any) -> None:
    json.dumps(strict(value), allow_nan=False)


def test_non_finite_numbers_become_the_strings_that_wandb_reads() -> None:
    assert strict([math.nan, math.inf, -math.inf, 1.5]) == ["NaN", "Infinity", "-Infinity", 1.5]


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", "[" * 100_000])
def test_text_that_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="summary"):
        read_object(text, "summary")


@pytest.mark.parametrize("step", [None, True, "1", 1.5, 10**30])
def test_an_invalid_step_is_read_as_none(step: Any) -> None:
    assert step_of({"_step": step}) is None


def test_history_keys_grow_with_the_rows() -> None:
    once = merge_history_keys({}, [{"_step": 4, "a": 1}])
    twice = merge_history_keys(once, [{"_step": 5, "a": 2, "img": {"_type": "image-file"}}])
    assert twice["lastStep"] == 5
    assert twice["keys"]["a"] == {"typeCounts": [{"type": "number", "count": 2}], "previousValue": 2}
    assert twice["keys"]["img"] == {"typeCounts": [{"type": "image-file", "count": 1}]}


def test_nested_values_have_dotted_history_keys() -> None:
    keys = merge_history_keys({}, [{"_step": 0, "val": {"loss": 0.5, "best": math.nan}}])["keys"]
    assert keys.keys() == {"_step", "val.loss", "val.best"}
    assert (keys["val.loss"]["previousValue"], keys["val.best"]["previousValue"]) == (0.5, "NaN")


def test_a_sample_needs_all_of_its_keys() -> None:
    assert sample({"a": 1, "b": 2}, ["a"]) == {"a": 1}
    assert sample({"a": 1}, ["a", "b"]) is None
    assert sample({"a": 1}, []) == {"a": 1}

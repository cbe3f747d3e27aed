from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.keys import is_master_key, label_of, new_master_key, worker_key

labels = st.from_regex(r"[A-Za-z0-9_]{1,64}", fullmatch=True)
masters = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)


@given(masters, labels)
def test_a_worker_key_tells_its_label(master: str, label: str) -> None:
    assert label_of(master, worker_key(master, label)) == label


@given(masters, masters, labels)
def test_a_worker_key_is_good_for_its_own_master_only(master: str, other: str, label: str) -> None:
    assert (label_of(other, worker_key(master, label)) is not None) is (other == master)


@given(masters, st.text())
def test_a_made_up_key_has_no_label(master: str, key: str) -> None:
    assert label_of(master, key) is None


def test_a_worker_key_is_no_master_key() -> None:
    master = new_master_key()
    assert is_master_key(master, master)
    assert not is_master_key(master, worker_key(master, "w0"))


def test_master_keys_are_as_long_as_the_client_asks_and_differ() -> None:
    first, second = new_master_key(), new_master_key()
    assert len(first) == 40
    assert first != second


@pytest.mark.parametrize("label", ["", "a-b", "ä", "x" * 65, "a\n"])
def test_a_label_that_could_be_misread_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="worker label"):
        worker_key(new_master_key(), label)

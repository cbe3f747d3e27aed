"""The holder that a key names, and that no key can be derived from another."""

from __future__ import annotations

from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.keys import (
    Holder,
    holder_of,
    is_master_key,
    new_master_key,
    node_key,
    node_worker_key,
    worker_key,
)

labels = st.text(f"{ascii_letters}{digits}_", min_size=1, max_size=64)
masters = st.binary(min_size=20, max_size=20).map(bytes.hex)


@given(masters, masters, labels, st.none() | labels, labels)
def test_a_worker_key_names_its_label_and_sweep_and_is_valid_for_no_other_master_or_sweep(
    master: str, other: str, label: str, sweep: str | None, another: str
) -> None:
    key = worker_key(master, label, sweep)
    assert holder_of(master, key) == Holder(label, sweep)
    assert (holder_of(other, key) is not None) is (other == master)
    mac = key.rpartition("-")[2]
    assert (holder_of(master, f"{label}.{another}-{mac}") is not None) is (another == sweep)
    assert (holder_of(master, f"{label}-{mac}") is not None) is (sweep is None)


@given(masters, labels, st.integers(1, 999_999), labels)
def test_the_server_accepts_keys_derived_by_a_node(master: str, sweep: str, epoch: int, label: str) -> None:
    node = node_key(master, sweep, epoch)
    holder = holder_of(master, node)
    assert holder == Holder(f"n{epoch}", sweep, epoch)
    assert holder.is_node
    assert holder_of(master, node_worker_key(node, label)) == Holder(label, sweep, epoch)


@given(masters, labels, labels)
def test_a_nodes_worker_key_is_only_for_its_own_epoch_and_sweep(master: str, sweep: str, label: str) -> None:
    mac = node_worker_key(node_key(master, sweep, 3), label).rpartition("-")[2]
    for name in (f"{label}.{sweep}.n4", f"{label}.{sweep}x.n3", f"{label}x.{sweep}.n3", f"{label}.{sweep}"):
        assert holder_of(master, f"{name}-{mac}") is None
    # A worker key of the master key can't pass for one that a node derived.
    assert holder_of(master, worker_key(master, label, sweep).replace("-", ".n3-")) is None


@pytest.mark.parametrize("key", ["0" * 40, worker_key("m", "w0", "s"), worker_key("m", "n3"), ""])
def test_deriving_a_worker_key_from_another_kind_of_key_raises(key: str) -> None:
    with pytest.raises(ValueError, match="not a node's key"):
        node_worker_key(key, "w0")


@given(masters, st.text())
def test_an_arbitrary_key_has_no_holder(master: str, key: str) -> None:
    assert holder_of(master, key) is None


def test_master_keys_are_40_characters_long_and_differ() -> None:
    first, second = new_master_key(), new_master_key()
    assert (len(first), first == second) == (40, False)
    assert is_master_key(first, first)
    assert not is_master_key(first, worker_key(first, "w0"))


@pytest.mark.parametrize("word", ["", "a-b", "a.b", "ä", "x" * 65, "a\n"])
def test_an_ambiguous_worker_label_or_sweep_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="worker label"):
        worker_key(new_master_key(), word)
    with pytest.raises(ValueError, match="sweep"):
        worker_key(new_master_key(), "w0", word)

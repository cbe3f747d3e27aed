"""What machines are called where several have one host's name."""

from __future__ import annotations

from parallel_hpo.machines.base import FoundMachine
from parallel_hpo.machines.names import MachineNames


def test_machines_of_one_host_are_told_apart_and_keep_their_names() -> None:
    names = MachineNames()
    first, second, other = FoundMachine("gpu", "a"), FoundMachine("gpu-2", "b"), FoundMachine("cpu", "c")
    assert names.name([("a", "gpu"), ("b", "gpu"), ("c", "cpu")]) == (other, first, second)
    assert names.name([("b", "gpu")]) == (second,)


def test_a_machine_that_comes_back_has_its_name_again() -> None:
    names = MachineNames()
    names.name([("a", "gpu"), ("b", "gpu")])
    assert names.name([("b", "gpu"), ("new", "gpu")]) == (
        FoundMachine("gpu", "new"),
        FoundMachine("gpu-2", "b"),
    )

"""What machines are called where several have one host's name."""

from __future__ import annotations

from parallel_hpo.cluster.base import ClusterMachine, MachineNames


def test_machines_of_one_host_have_different_names_and_keep_them() -> None:
    names = MachineNames()
    first, second, other = (
        ClusterMachine("gpu", "a"),
        ClusterMachine("gpu-2", "b"),
        ClusterMachine("cpu", "c"),
    )
    assert names.name([("a", "gpu"), ("b", "gpu"), ("c", "cpu")]) == (other, first, second)
    assert names.name([("b", "gpu")]) == (second,)


def test_a_machine_that_comes_back_has_its_name_again() -> None:
    names = MachineNames()
    names.name([("a", "gpu"), ("b", "gpu")])
    assert names.name([("b", "gpu"), ("new", "gpu")]) == (
        ClusterMachine("gpu", "new"),
        ClusterMachine("gpu-2", "b"),
    )

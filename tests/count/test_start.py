from __future__ import annotations

import pytest

from parallel_hpo.count.policy import is_hopeless


@pytest.mark.parametrize("causes", [(), ("SIGKILL",), ("SIGKILL", "exit 3"), ("a", "b", "c")])
def test_deaths_of_different_causes_may_be_chance(causes: tuple[str, ...]) -> None:
    assert not is_hopeless(causes)


@pytest.mark.parametrize("causes", [("exit 3", "exit 3"), ("exit 3", "SIGKILL", "exit 3")])
def test_the_second_death_of_the_same_cause_is_hopeless(causes: tuple[str, ...]) -> None:
    assert is_hopeless(causes)


def test_only_the_last_death_decides() -> None:
    assert not is_hopeless(("exit 3", "exit 3", "SIGKILL"))

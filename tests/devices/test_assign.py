from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.mask import VisibleDevice, count_slots, group
from tests.devices.fakes import DEVICES


def tokens(*names: str) -> list[VisibleDevice]:
    return [VisibleDevice(name) for name in names]


def test_each_worker_gets_one_device() -> None:
    assert [grant.name for grant in group(tokens("3", "5"), 1)] == ["3", "5"]


def test_workers_may_get_several_devices() -> None:
    assert [grant.name for grant in group(tokens("0", "1", "2", "3", "4"), 2)] == ["0,1", "2,3"]


def test_too_many_devices_per_worker_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"hpo\.devices_per_worker is 3, but there are 2 devices"):
        group(tokens("3", "5"), 3)


@pytest.mark.parametrize(
    ("workers", "per_device", "slots"), [(None, 1, 2), (None, 3, 6), (1, 1, 1), (4, 2, 4)]
)
def test_the_number_of_workers_follows_from_sharing(workers: int | None, per_device: int, slots: int) -> None:
    grants = group(tokens("3", "5"), 1)
    assert count_slots(grants, workers=workers, workers_per_device=per_device) == slots


def test_too_many_workers_are_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"hpo\.workers is 5, .* take 4 .*raise hpo\.workers_per_device"):
        count_slots(group(tokens("3", "5"), 1), workers=5, workers_per_device=2)


@given(st.integers(1, 9), st.integers(1, 9))
def test_groups_of_devices_are_disjoint(number: int, per_worker: int) -> None:
    devices = tokens(*map(str, range(number)))
    if number < per_worker:
        return
    given_out = [each for grant in group(devices, per_worker) for each in grant.devices]
    assert given_out == devices[: number - number % per_worker]


def test_the_cores_near_several_devices_are_those_near_any() -> None:
    near = [VisibleDevice(str(device.index), device.uuid, device) for device in (DEVICES[3], DEVICES[4])]
    (both,) = group(near, 2)
    assert both.cpus == frozenset(range(8))


def test_cores_are_unknown_if_those_of_one_device_are() -> None:
    (both,) = group([VisibleDevice("3", "", DEVICES[3]), VisibleDevice("x")], 2)
    assert both.cpus == frozenset()

"""Devices of a mask, and cores: how many a sweep may use, and which of them each of its workers gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.cores import cores_of_quota, count_cores, count_physical_cores
from parallel_hpo.devices.library import MaskVariable, NoDriver
from parallel_hpo.devices.mask import Mask, VisibleDevice, choose, find_visible, group, read_mask
from parallel_hpo.devices.placing import Machine, SlotAssignment, SweepDevices, assign_slots
from tests.devices.fakes import DEVICES, INSTANCES, STRANGER, UUIDS, FakeLibrary, used_by

CUDA = MaskVariable.CUDA


def shown(text: str | None, *, driver: bool = True) -> list[str]:
    """Return the tokens that a mask shows, on the machine with eight devices or on one without a driver."""
    environment = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}
    mask = read_mask(environment, driver=CUDA if driver else None)
    return [each.token for each in find_visible(mask, DEVICES if driver else None)]


@pytest.mark.parametrize("driver", [True, False])
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("3,5", ["3", "5"]),
        ("5,3", ["5", "3"]),
        (" 3 , 5 ", ["3", "5"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("3,-1,5", ["3"]),
        ("3,,5", ["3"]),
        ("3,3,5", ["3"]),
        (UUIDS[3], [UUIDS[3]]),
        (f"{UUIDS[5]},{UUIDS[3]}", [UUIDS[5], UUIDS[3]]),
        ("GPU-3d,5", ["GPU-3d", "5"]),
        (INSTANCES[1], [INSTANCES[1]]),
        (",".join(INSTANCES), list(INSTANCES)),
    ],
)
def test_a_mask_shows_its_tokens_in_order(text: str, tokens: list[str], driver: bool) -> None:
    assert shown(text, driver=driver) == tokens


def test_an_invalid_entry_hides_later_ones_and_without_a_mask_devices_have_indices() -> None:
    for text in ("3,8,5", "3,GPU-9z,5", "3,GPU-,5", "3,MIG-9,5", f"3,{UUIDS[3]},5"):
        assert shown(text) == ["3"]
    assert shown(None) == ["0", "1", *INSTANCES, "3", "4", "5", "6", "7"]
    assert shown(None, driver=False) == []


def test_a_partitioned_device_named_as_a_whole_is_its_first_instance() -> None:
    (device,) = find_visible(Mask(CUDA, ("2",)), DEVICES)
    assert (device.token, device.uuid) == ("2", INSTANCES[0])


def test_amds_mask_applies_without_an_nvidia_driver() -> None:
    both = {"ROCR_VISIBLE_DEVICES": "1,2", "CUDA_VISIBLE_DEVICES": "3"}
    assert read_mask(both, driver=None) == Mask(MaskVariable.ROCR, ("1", "2"))
    assert read_mask(both, driver=CUDA) == Mask(CUDA, ("3",))


TOKENS = st.sampled_from(["0", "1", "2", "3", "8", "-1", "", *UUIDS, *INSTANCES, "GPU-3", "GPU-", "x"])


@given(st.lists(TOKENS, min_size=1), st.booleans())
def test_visible_devices_are_a_prefix_of_the_mask(entries: list[str], driver: bool) -> None:
    visible = find_visible(Mask(CUDA, tuple(entries)), DEVICES if driver else None)
    assert [each.token for each in visible] == entries[: len(visible)]


def chosen(wanted: list[str], text: str | None) -> list[str]:
    mask = read_mask({} if text is None else {"CUDA_VISIBLE_DEVICES": text}, driver=CUDA)
    return [each.token for each in choose(find_visible(mask, DEVICES), wanted, mask, DEVICES)]


@pytest.mark.parametrize(
    ("wanted", "text", "tokens"),
    [
        (["5"], "3,5", ["5"]),
        (["5", "3"], "3,5", ["5", "3"]),
        (["3"], f"{UUIDS[5]},{UUIDS[3]}", [UUIDS[3]]),
        ([UUIDS[3]], "5,3", ["3"]),
        (["GPU-3d"], UUIDS[3], [UUIDS[3]]),
        (["1", INSTANCES[1]], None, ["1", INSTANCES[1]]),
        (["0"], "3,5", "hpo.devices names '0', which is not visible here"),
        (["9"], None, "hpo.devices names '9', which is not visible here"),
        ([INSTANCES[1]], "2", f"hpo.devices names '{INSTANCES[1]}', which is not visible here"),
        (["3"], "", "hpo.devices names '3', which is not visible here"),
        (["3", "3"], None, "twice"),
        (["3", UUIDS[3]], None, "twice"),
    ],
)
def test_requested_devices_get_the_tokens_of_the_mask_or_are_refused(
    wanted: list[str], text: str | None, tokens: list[str] | str
) -> None:
    if isinstance(tokens, list):
        assert chosen(wanted, text) == tokens
    else:
        with pytest.raises(ConfigError, match=tokens):
            chosen(wanted, text)
    unchecked = choose((), ["0", "1"], Mask(CUDA, None), None)
    assert [each.token for each in unchecked] == ["0", "1"]


def test_workers_get_one_or_several_devices_each() -> None:
    devices = [VisibleDevice(name) for name in "01234"]
    assert [grant.name for grant in group(devices[:2], 1)] == ["0", "1"]
    assert [grant.name for grant in group(devices, 2)] == ["0,1", "2,3"]
    with pytest.raises(ConfigError, match=r"hpo\.devices_per_worker is 3, but there are 2 devices"):
        group(devices[:2], 3)


def test_cores_near_several_devices_are_those_near_any_if_all_are_known() -> None:
    third, fourth = (VisibleDevice(str(n), DEVICES[n].uuid, DEVICES[n]) for n in (3, 4))
    (both,) = group([third, fourth], 2)
    (unknown,) = group([third, VisibleDevice("x")], 2)
    assert (both.cpus, unknown.cpus) == (frozenset(range(8)), frozenset())


NO_DRIVER = NoDriver("no NVIDIA driver is installed")
BROKEN = NoDriver("Driver/library version mismatch", broken=True)
FAKE = FakeLibrary()
CORES = 6
MIG = ",".join(INSTANCES)


def placed(
    mask: str | None = None,
    library: FakeLibrary | NoDriver = NO_DRIVER,
    environment: Mapping[str, str] | None = None,
    **keys: Any,
) -> SlotAssignment:
    if environment is None:
        environment = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    section = HpoSection.model_validate({"sweep_id": "x", **keys})
    machine = Machine(environment, library, lambda: CORES, lambda pid: pid == STRANGER)
    return assign_slots(section, machine)


def names(placement: SlotAssignment) -> list[str]:
    return [grant.name for grant in placement.grants]


@pytest.mark.parametrize(
    ("mask", "library", "keys", "used", "note"),
    [
        (None, FAKE, {}, ["0", "1", *INSTANCES, "3", "4", "5", "7"], f"6 is left out: process {STRANGER}"),
        (None, FAKE, {"polite": True}, ["0", "1", *INSTANCES, "3", "4", "5", "6", "7"], None),
        ("3,6,5", FAKE, {}, ["3", "5"], "device 6 is left out"),
        (None, FAKE, {"devices": [6]}, ["6"], None),
        ("0,1", NO_DRIVER, {"devices": ["1"]}, ["1"], None),
        (None, BROKEN, {"devices": ["1"]}, ["1"], "Driver/library version mismatch"),
        (None, BROKEN, {}, [], "Driver/library version mismatch"),
        ("3", FakeLibrary(usages={UUIDS[3]: used_by(os.getpid())}), {}, ["3"], None),
        ("3", FakeLibrary(usages={UUIDS[3]: None}), {}, ["3"], None),
        ("3,5", NO_DRIVER, {}, ["3", "5"], None),
        ("3,99,5", FAKE, {}, ["3"], "CUDA_VISIBLE_DEVICES=3,99,5 hides 99, 5"),
        (None, FAKE, {"devices": [0, 1], "devices_per_worker": 2}, ["0,1"], None),
    ],
)
def test_a_sweep_uses_free_visible_or_named_devices_and_warns_about_others(
    mask: str | None, library: FakeLibrary | NoDriver, keys: dict[str, Any], used: list[str], note: str | None
) -> None:
    placement = placed(mask, library, **keys)
    assert names(placement) == used
    assert placement.workers == (len(used) or CORES)
    assert len(placement.notes) == (note is not None)
    assert all(each.warning and note is not None and note in each.text for each in placement.notes)


@pytest.mark.parametrize(
    ("mask", "library", "keys", "words"),
    [
        (None, NO_DRIVER, {"devices": ["0"]}, "names '0', but there is no such device here: no NV"),
        ("6", FAKE, {}, rf"process {STRANGER} computes on it(.|\n)*hpo\.devices"),
        (
            *("3,5", NO_DRIVER, {"workers": 5, "workers_per_device": 2}),
            r"hpo\.workers is 5, .* take 4 .*raise hpo\.workers_per_device",
        ),
        (None, NO_DRIVER, {"devices_per_worker": 2}, r"hpo\.devices_per_worker is 2, but there is no device"),
        (None, FAKE, {"devices_per_worker": 2}, f"{INSTANCES[0]} is a MIG instance"),
        ("0,2", FAKE, {"devices_per_worker": 2}, "2 is a MIG instance"),
        (MIG, NO_DRIVER, {"devices_per_worker": 2}, f"{INSTANCES[0]} is a MIG instance"),
    ],
)
def test_a_sweep_that_requests_unavailable_devices_is_refused(
    mask: str | None, library: FakeLibrary | NoDriver, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        placed(mask, library, **keys)


def test_workers_share_a_device_by_number_or_by_memory() -> None:
    assert placed("3,5", workers_per_device=3).workers == 6
    assert placed("3,5", workers_per_device=3, workers=4).workers == 4
    assert placed("3,5", workers=1).workers == 1
    by_memory: dict[str, Any] = {"devices": [3, 5], "workers_per_device": "auto"}
    for more, begins, most in (({}, 2, CORES), ({"workers": 9}, 2, 9), ({"workers": 1}, 1, 1)):
        shared = placed(library=FAKE, **by_memory | more)
        assert (shared.workers, shared.most_workers) == (begins, most)
    assert placed(workers_per_device="auto").most_workers is None, "there are no devices to share"


def test_a_sweep_without_devices_has_a_worker_per_core() -> None:
    assert (placed().workers, placed().most_workers) == (CORES, None)
    for text in ("", "-1"):
        placement = placed(text, FAKE, workers=2)
        assert (placement.workers, names(placement)) == (2, [])


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (placed(f"3,{UUIDS[5]}"), {"CUDA_VISIBLE_DEVICES": UUIDS[5], "PARALLEL_HPO_DEVICE": UUIDS[5]}),
        (
            placed(environment={"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "0,1"}),
            {"ROCR_VISIBLE_DEVICES": "3", "PARALLEL_HPO_DEVICE": "3"},
        ),
        (
            placed("3", FAKE, devices="cpu"),
            {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "PARALLEL_HPO_DEVICE": "cpu"},
        ),
        (placed(), {"PARALLEL_HPO_DEVICE": "cpu"}),
    ],
)
def test_a_workers_mask_has_only_its_own_device(placement: SlotAssignment, expected: dict[str, str]) -> None:
    devices = SweepDevices(placement, NO_DRIVER)
    assert devices.variables(Slot(1), devices.names[1] if devices.names else "") == expected
    assert ("HIP_VISIBLE_DEVICES" in placement.superseded) is (placement.variable is MaskVariable.ROCR)


def test_each_worker_with_several_devices_gets_a_new_port() -> None:
    devices = SweepDevices(placed("0,1,2,3", devices_per_worker=2), NO_DRIVER)
    first, second, third, fourth = (
        int(devices.variables(Slot(n % 2), devices.names[n % 2])["MASTER_PORT"]) for n in range(4)
    )
    assert first != second != third != fourth
    assert first != third
    assert all(1024 <= port < 65536 for port in (first, second, third, fourth))


@pytest.mark.parametrize(
    ("cores", "bound"),
    [(range(8), (0, 1, 2, 3)), ((2, 3, 9), (2, 3)), (range(4), None), ((5, 6), None), ((), None)],
)
def test_a_worker_is_bound_to_the_cores_near_its_device(
    cores: range | tuple[int, ...], bound: tuple[int, ...] | None
) -> None:
    devices = SweepDevices(placed("3", FAKE), NO_DRIVER, cores=lambda: frozenset(cores))
    assert (devices.cpus("3"), devices.cpus("")) == (bound, None)


V1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.mark.parametrize("limit", [None, "1"])
def test_cores_are_counted_as_joblib_counts_them(limit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit is not None:
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", limit)
    assert count_cores() == joblib.cpu_count()
    assert count_physical_cores() == joblib.cpu_count(only_physical_cores=True)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        (dict(zip(V1, ("300000\n", "100000\n"), strict=True)), 3),
        (dict(zip(V1, ("-1\n", "100000\n"), strict=True)), None),
    ],
)
def test_a_cgroups_quota_is_rounded_up_to_whole_cores(
    tmp_path: Path, files: dict[str, str], cores: int | None
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cores_of_quota(tmp_path) == cores
    assert count_cores(tmp_path) <= (cores or sys.maxsize)


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    with pytest.raises(ConfigError, match="LOKY_MAX_CPU_COUNT is 'two': give a number of cores"):
        count_cores()

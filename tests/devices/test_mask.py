from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.library import MaskVariable
from parallel_hpo.devices.mask import Mask, VisibleDevice, choose, count_slots, find_visible, group, read_mask
from tests.devices.fakes import DEVICES, INSTANCES, UUIDS

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


@pytest.mark.parametrize("text", ["3,8,5", "3,GPU-9z,5", "3,GPU-,5", "3,MIG-9,5", f"3,{UUIDS[3]},5"])
def test_an_invalid_entry_hides_all_after_it(text: str) -> None:
    assert shown(text) == ["3"]


def test_a_partitioned_device_named_as_a_whole_is_its_first_instance() -> None:
    (device,) = find_visible(Mask(CUDA, ("2",)), DEVICES)
    assert (device.token, device.uuid) == ("2", INSTANCES[0])


def test_amds_mask_applies_without_an_nvidia_driver() -> None:
    both = {"ROCR_VISIBLE_DEVICES": "1,2", "CUDA_VISIBLE_DEVICES": "3"}
    assert read_mask(both, driver=None) == Mask(MaskVariable.ROCR, ("1", "2"))
    assert read_mask(both, driver=CUDA) == Mask(CUDA, ("3",))


TOKENS = st.sampled_from(["0", "1", "2", "3", "8", "-1", "", *UUIDS, *INSTANCES, "GPU-3", "GPU-", "x"])


@given(st.lists(TOKENS, min_size=1), st.booleans())
def test_visible_devices_are_the_beginning_of_the_mask(entries: list[str], driver: bool) -> None:
    visible = find_visible(Mask(CUDA, tuple(entries)), DEVICES if driver else None)
    assert [each.token for each in visible] == entries[: len(visible)]


def test_devices_are_named_by_index_without_a_mask() -> None:
    assert shown(None) == ["0", "1", *INSTANCES, "3", "4", "5", "6", "7"]
    assert shown(None, driver=False) == []


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
def test_wanted_devices_are_named_by_the_parents_tokens_or_refused(
    wanted: list[str], text: str | None, tokens: list[str] | str
) -> None:
    if isinstance(tokens, list):
        assert chosen(wanted, text) == tokens
    else:
        with pytest.raises(ConfigError, match=tokens):
            chosen(wanted, text)


def test_wanted_devices_are_unchecked_without_mask_and_driver() -> None:
    assert [each.token for each in choose((), ["0", "1"], Mask(CUDA, None), None)] == ["0", "1"]


def tokens(*names: str) -> list[VisibleDevice]:
    return [VisibleDevice(name) for name in names]


@given(st.integers(1, 9), st.integers(1, 9))
def test_groups_of_devices_are_disjoint(number: int, per_worker: int) -> None:
    devices = tokens(*map(str, range(number)))
    if number < per_worker:
        return
    given_out = [each for grant in group(devices, per_worker) for each in grant.devices]
    assert given_out == devices[: number - number % per_worker]


def test_workers_get_one_or_several_devices_each() -> None:
    assert [grant.name for grant in group(tokens("3", "5"), 1)] == ["3", "5"]
    assert [grant.name for grant in group(tokens("0", "1", "2", "3", "4"), 2)] == ["0,1", "2,3"]
    with pytest.raises(ConfigError, match=r"hpo\.devices_per_worker is 3, but there are 2 devices"):
        group(tokens("3", "5"), 3)


def test_the_number_of_workers_follows_from_sharing() -> None:
    grants = group(tokens("3", "5"), 1)
    for workers, per_device, slots in ((None, 1, 2), (None, 3, 6), (1, 1, 1), (4, 2, 4)):
        assert count_slots(grants, workers=workers, workers_per_device=per_device) == slots
    with pytest.raises(ConfigError, match=r"hpo\.workers is 5, .* take 4 .*raise hpo\.workers_per_device"):
        count_slots(grants, workers=5, workers_per_device=2)


def test_cores_near_several_devices_are_those_near_any_if_all_are_known() -> None:
    third, fourth = (VisibleDevice(str(n), DEVICES[n].uuid, DEVICES[n]) for n in (3, 4))
    (both,) = group([third, fourth], 2)
    (unknown,) = group([third, VisibleDevice("x")], 2)
    assert (both.cpus, unknown.cpus) == (frozenset(range(8)), frozenset())

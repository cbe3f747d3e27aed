from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.library import MaskVariable
from parallel_hpo.devices.mask import Mask, choose, find_visible, read_mask
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


def test_devices_are_named_by_index_without_a_mask() -> None:
    assert shown(None) == ["0", "1", *INSTANCES, "3", "4", "5", "6", "7"]


def test_there_are_no_devices_without_mask_and_driver() -> None:
    assert shown(None, driver=False) == []


def test_a_partitioned_device_named_as_a_whole_is_its_first_instance() -> None:
    (device,) = find_visible(Mask(CUDA, ("2",)), DEVICES)
    assert (device.token, device.uuid) == ("2", INSTANCES[0])


def test_amds_mask_applies_without_an_nvidia_driver() -> None:
    both = {"ROCR_VISIBLE_DEVICES": "1,2", "CUDA_VISIBLE_DEVICES": "3"}
    assert read_mask(both, driver=None) == Mask(MaskVariable.ROCR, ("1", "2"))
    assert read_mask(both, driver=CUDA) == Mask(CUDA, ("3",))


def chosen(wanted: list[str], text: str | None) -> list[str]:
    mask = read_mask({} if text is None else {"CUDA_VISIBLE_DEVICES": text}, driver=CUDA)
    visible = find_visible(mask, DEVICES)
    return [each.token for each in choose(visible, wanted, mask, DEVICES)]


@pytest.mark.parametrize(
    ("wanted", "text", "tokens"),
    [
        (["5"], "3,5", ["5"]),
        (["5", "3"], "3,5", ["5", "3"]),
        (["3"], f"{UUIDS[5]},{UUIDS[3]}", [UUIDS[3]]),
        ([UUIDS[3]], "5,3", ["3"]),
        (["GPU-3d"], UUIDS[3], [UUIDS[3]]),
        (["1", INSTANCES[1]], None, ["1", INSTANCES[1]]),
    ],
)
def test_wanted_devices_are_named_by_the_parents_tokens(
    wanted: list[str], text: str | None, tokens: list[str]
) -> None:
    assert chosen(wanted, text) == tokens


@pytest.mark.parametrize(
    ("wanted", "text"), [(["0"], "3,5"), (["9"], None), ([INSTANCES[1]], "2"), (["3"], "")]
)
def test_a_hidden_device_is_an_error(wanted: list[str], text: str | None) -> None:
    with pytest.raises(ConfigError, match=f"hpo.devices names '{wanted[0]}', which is not visible here"):
        chosen(wanted, text)


@pytest.mark.parametrize("wanted", [["3", "3"], ["3", UUIDS[3]]])
def test_a_device_named_twice_is_an_error(wanted: list[str]) -> None:
    with pytest.raises(ConfigError, match="twice"):
        chosen(wanted, None)


def test_wanted_devices_are_unchecked_without_mask_and_driver() -> None:
    mask = Mask(CUDA, None)
    assert [each.token for each in choose((), ["0", "1"], mask, None)] == ["0", "1"]


TOKENS = st.sampled_from(["0", "1", "2", "3", "8", "-1", "", *UUIDS, *INSTANCES, "GPU-3", "GPU-", "x"])


@given(st.lists(TOKENS, min_size=1), st.booleans())
def test_visible_devices_are_the_beginning_of_the_mask(entries: list[str], driver: bool) -> None:
    visible = find_visible(Mask(CUDA, tuple(entries)), DEVICES if driver else None)
    assert [each.token for each in visible] == entries[: len(visible)]

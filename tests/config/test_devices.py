from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.config.loader import Sources, load_section
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError


def load(environment: dict[str, str] | None = None, **keys: Any) -> HpoSection:
    document = {"hpo": {"sweep_id": "x", **keys}}
    section = load_section(document, Path("config.json"), Sources(environment or {}), kinds=("wandb_sweeps",))
    assert section is not None
    return section


def test_devices_are_auto_by_default() -> None:
    section = load()
    assert (section.devices, section.workers_per_device, section.devices_per_worker) == ("auto", 1, 1)
    assert (section.preload, section.faults) == ([], [])


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        ("auto", "auto"),
        ("cpu", "cpu"),
        ([0, 1], ["0", "1"]),
        (["3", "GPU-1a2b", "MIG-3c-4d"], ["3", "GPU-1a2b", "MIG-3c-4d"]),
        (["MIG-GPU-1a/7/0"], ["MIG-GPU-1a/7/0"]),
        ("0,1", ["0", "1"]),
        (2, ["2"]),
    ],
)
def test_devices_are_tokens_of_a_mask(value: object, devices: object) -> None:
    assert load(devices=value).devices == devices


@pytest.mark.parametrize(
    "value", [[], "", "gpu", [True], True, [-1], -1, [1.5], None, {}, ["0,1"], [[0]], "0,"]
)
def test_an_invalid_token_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r'hpo\.devices is .*; allowed: "auto", "cpu", or a list'):
        load(devices=value)


def test_lists_in_the_environment_have_commas() -> None:
    section = load({"PARALLEL_HPO_DEVICES": "3,5", "PARALLEL_HPO_PRELOAD": "torch,numpy.linalg"})
    assert section.devices == ["3", "5"]
    assert section.preload == ["torch", "numpy.linalg"]


@pytest.mark.parametrize("key", ["workers_per_device", "devices_per_worker"])
@pytest.mark.parametrize("value", [0, -1, True, "2", 1.5])
def test_a_number_of_workers_or_devices_is_1_or_more(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"hpo\.{key} is .*; allowed: (\"auto\" or )?a whole number of 1"):
        load(**{key: value})


@pytest.mark.parametrize("value", [["a b"], [""], ["a..b"], [1], {"a": 1}])
def test_an_invalid_module_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"hpo\.preload is .*; allowed: a list of names of modules"):
        load(preload=value)


def test_preload_needs_a_fork_server() -> None:
    with pytest.raises(ConfigError, match=r"hpo\.preload needs a fork server, .* 'spawn'"):
        load(preload=["numpy"], start_method="spawn")


def test_faults_are_patterns_with_an_action() -> None:
    (fault,) = load(faults=[{"pattern": "no (good|luck)", "action": "recycle"}]).faults
    assert (fault.pattern, fault.action) == ("no (good|luck)", "recycle")


@pytest.mark.parametrize(
    "fault",
    [{"pattern": "("}, {"pattern": "(", "action": "keep"}, {"pattern": "x", "action": "burn"}, {}, "x"],
)
def test_an_invalid_fault_is_refused(fault: object) -> None:
    with pytest.raises(ConfigError, match=r'hpo\.faults is .*; allowed: a list of tables with "pattern"'):
        load(faults=[fault])

"""Number of cores that a sweep may use, by the machine, the cgroup and the environment."""

from __future__ import annotations

from pathlib import Path

import joblib
import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.cores import cores_of_quota, count_cores, count_physical_cores

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


def test_a_quota_of_one_core_leaves_one(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert count_cores(tmp_path) == 1


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    with pytest.raises(ConfigError, match="LOKY_MAX_CPU_COUNT is 'two': give a number of cores"):
        count_cores()

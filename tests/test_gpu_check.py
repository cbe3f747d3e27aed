"""scripts/gpu_check where there is no device: it says so; with a made-up driver its rows are tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.devices.drivers import open_nvml
from parallel_hpo.devices.library import NoDriver, opened
from scripts.gpu_rows import page
from scripts.gpu_rows.rows import ROWS, Result
from tests.devices.driver import COMPILER, WHY_NO_COMPILER, build_driver

ROOT: Final = Path(__file__).parents[1]
MADE_UP: Final = pytest.mark.skipif(sys.platform != "linux" or COMPILER is None, reason=WHY_NO_COMPILER)


def gpu_check(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gpu_check"), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_without_a_device_it_says_so_and_ends_as_skipped() -> None:
    with opened(open_nvml) as library:
        if not isinstance(library, NoDriver):
            pytest.skip("there is a driver here")
    done = gpu_check()
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("there is no usable NVIDIA device here: ")


def test_the_table_takes_the_place_of_what_the_page_had_and_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "devices.md"
    file.write_text(f"# Devices\n\n{page.HEADING}\nNone could be had.\n")
    for seen in ("first", "second | third"):
        results = (Result(True, seen), Result(None, "no"), Result(False, "bad"))
        page.write(list(zip(ROWS, results, strict=False)), "1 × H100", file)
    text = file.read_text()
    assert text.startswith(f"# Devices\n\n{page.HEADING}\n1 × H100; by")
    assert "None could be had" not in text and "first" not in text
    assert f"| masks | {ROWS[0].promise} | as promised | second / third |" in text
    assert "| not tried | no |" in text and "| **not as promised** | bad |" in text


@MADE_UP
@pytest.mark.timeout(600)
@pytest.mark.thorough
def test_every_row_is_as_promised_with_a_made_up_driver(tmp_path: Path) -> None:
    """All but MIG, which the made-up CUDA has not."""
    done = gpu_check(**build_driver(tmp_path), CUDA_VISIBLE_DEVICES="3,5")
    cells = [line.removeprefix("| ").split(" | ") for line in done.stdout.splitlines() if line[:1] == "|"]
    rows = {name: how for name, _, how, _ in cells[2:]}
    expected = {row.name: "not tried" if row.name == "mig" else "as promised" for row in ROWS}
    assert rows == expected, done.stdout
    assert done.returncode == 0

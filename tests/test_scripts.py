"""Scripts of this repository, and the summary of skipped tests."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from parallel_hpo.devices.drivers import open_nvml
from parallel_hpo.devices.library import NoDriver, opened
from scripts.benchmarks.queueing import Cost, Stream, simulate
from scripts.cloud_rows import rows as cloud
from scripts.cloud_rows.rows import ROWS as CLOUD_ROWS
from scripts.cloud_rows.stage import SessionSetup, Swept
from scripts.environment import ROOT, VENV
from scripts.framework_rows import page
from scripts.framework_rows.environments import PACKAGES
from scripts.framework_rows.evidence import TableRun
from scripts.framework_rows.leftovers import kind
from scripts.framework_rows.rows import BEGUN, ROWS, RUNS, Row
from scripts.framework_rows.stage import MAINS, Alone
from scripts.gpu_rows import page as devices_page
from scripts.gpu_rows.rows import ROWS as GPU_ROWS
from scripts.gpu_rows.rows import Result
from tests.commands import Done
from tests.conftest import make_clean_env, summarize_missing
from tests.contract.proxy import Harm, proxying
from tests.contract.serving import Server, serving
from tests.devices.fakes import COMPILER, WHY_NO_COMPILER, build_driver
from tests.slurm import PACKAGES as SLURM_PACKAGES

SCRIPTS: Final = ("bench", "bench_search", "chaos", "cloud_check", "frameworks", "gpu_check")
SYS_PYTHON: Final = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.skipif(Path(sys.prefix) != VENV, reason="the tests do not run in .venv")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_run_by_a_python_without_our_packages_switches_to_the_venv(script: str) -> None:
    command = [str(SYS_PYTHON), "-S", str(ROOT / "scripts" / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()[0]) == (0, "usage:"), done.stderr


@pytest.mark.parametrize("script", ["test", "test-interpreters", "test-lowest", "check-client"])
def test_every_test_that_a_script_chooses_exists(script: str) -> None:
    chosen = re.findall(r"\btests/[\w/{},.]+", (ROOT / "scripts" / script).read_text())
    expanded = subprocess.run(
        ["bash", "-c", f"printf '%s\n' {' '.join(chosen)}"], capture_output=True, text=True, check=True
    )
    assert [path for path in expanded.stdout.split() if not (ROOT / path).exists()] == []


def run_script(name: str, *words: str, env: Mapping[str, str], timeout_s: float) -> Done:
    command = [sys.executable, str(ROOT / "scripts" / name), *words]
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
    )


@pytest.fixture
def run_bench(clean_env: dict[str, str]) -> Callable[..., Done]:
    """Return a function that runs the script with options; it measures new interpreters."""
    return partial(run_script, "bench", env=clean_env, timeout_s=100)


def test_the_benchmark_measures_a_row_against_its_baseline(run_bench: Callable[..., Done]) -> None:
    done = run_bench("lines", "--repeat", "1", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["row"] == "lines"
    assert len(row["ours"]) == len(row["baseline"]) == 1
    assert row["ratio"] > 0


def test_the_benchmark_refuses_an_unknown_row(run_bench: Callable[..., Done]) -> None:
    done = run_bench("nothing")
    assert (done.returncode, "gap" in done.stderr) == (2, True)


@pytest.mark.thorough
def test_the_benchmark_times_a_real_sweep(run_bench: Callable[..., Done]) -> None:
    done = run_bench("again", "--repeat", "1")
    assert "`again` from a worker's SIGKILL to its run inside main again" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("cost", "servers"),
    [(Cost(core_s=0.01, writes=0), 1), (Cost(locked_s=0.01), 4)],
    ids=["a server's core", "the database's lock, which servers share"],
)
def test_the_simulated_wait_matches_queueing_theory(cost: Cost, servers: int) -> None:
    """M/D/1: requests at random times, all equally long, wait ρs / 2(1 - ρ) on average."""
    load, chance = 0.7, Random(1)
    stream = Stream("one", cost, every_s=servers * 0.01 / load, regular=False)
    waits = []
    for _ in range(12):
        answers_s = simulate([stream], agents=servers, servers=servers, seconds=60, chance=chance)
        waits.append(statistics.mean(answers_s["one"]) - 0.01)
    error = statistics.stdev(waits) / len(waits) ** 0.5
    expected = load * 0.01 / (2 * (1 - load))
    assert error < 0.1 * expected
    assert abs(statistics.mean(waits) - expected) < 3 * error


IDS: Final = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (("--yes",), "", "WANDB_API_KEY is not set"),
        ((), "k" * 40, "add --yes"),
        (("--yes", "gird"), "k" * 40, "no row gird; there are grid, random"),
    ],
)
def test_cloud_check_starts_nothing_without_a_key_consent_and_a_known_row(
    tmp_path: Path, words: tuple[str, ...], key: str, message: str
) -> None:
    # No server answers at this address: any request would fail with an error.
    account = {"WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = run_script("cloud_check", *words, env=make_clean_env(tmp_path) | account, timeout_s=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@dataclass
class FakeStage(SessionSetup):
    """A stage whose sweep and server give the answers of the test."""

    swept: Swept = field(kw_only=True)
    shown: dict[str, Any] = field(kw_only=True)

    def sweep(self, main: str, sweep: Any, **keys: Any) -> Swept:
        return self.swept

    def ask_until(self, sweep_id: str, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return self.shown


@pytest.mark.parametrize(
    ("shown", "phantoms", "whole"),
    [
        *((IDS, [], True), (IDS[:3], [], False)),
        *(((*IDS, "more"), [], False), ((*IDS, "more"), ["more"], True)),
    ],
)
def test_a_sweep_passes_only_if_the_server_shows_exactly_its_runs(
    tmp_path: Path, shown: tuple[str, ...], phantoms: list[str], whole: bool
) -> None:
    runs = [{"run_id": each} for each in IDS]
    summary = {"sweep_id": "s", "finished": 4, "phantoms": phantoms, "runs": runs}
    there = {"state": "FINISHED", "runs": dict.fromkeys(shown, "finished")}
    stage = FakeStage(tmp_path, "p", swept=Swept(0, summary, "", []), shown=there)
    assert cloud.BY_NAME["grid"].check(stage).whole is whole


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, make_clean_env(tmp_path / "home")) as server:
        yield server


@pytest.mark.timeout(900)
@pytest.mark.thorough
def test_every_cloud_row_passes_on_a_server_taken_for_wandbs_and_leaves_no_run(
    tmp_path: Path, server: Server
) -> None:
    with proxying(server.said["url"]) as proxy:
        # parallel_hpo recognizes its own servers by their answers here.
        proxy.choose = lambda message: Harm.GONE_404 if message.path.startswith("/hpo") else Harm.NONE
        account = {
            "WANDB_BASE_URL": proxy.url.replace("127.0.0.1", "localhost"),
            "WANDB_API_KEY": server.said["api_key"],
        }
        clean = make_clean_env(tmp_path / "user") | {"PATH": os.environ["PATH"]}
        done = run_script("cloud_check", "--yes", env=clean | account, timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = re.findall(r"^\| ([\w-]+) \| .*? \| as promised \|", done.stdout, re.MULTILINE)
    assert verdicts == [*(row.name for row in CLOUD_ROWS), "removal"]
    assert server.said["api_key"] not in done.stdout + done.stderr
    with closing(sqlite3.connect(server.folder / "server.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


WITH_COMPILER: Final = pytest.mark.skipif(sys.platform != "linux" or COMPILER is None, reason=WHY_NO_COMPILER)


def test_gpu_check_without_a_device_exits_with_code_77_and_the_reason() -> None:
    with opened(open_nvml) as library:
        if not isinstance(library, NoDriver):
            pytest.skip("there is a driver here")
    done = run_script("gpu_check", env=os.environ, timeout_s=60)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("there is no usable NVIDIA device here: ")


def test_the_device_table_replaces_the_old_one_and_keeps_the_rest_of_the_page(tmp_path: Path) -> None:
    file = tmp_path / "devices.md"
    file.write_text(f"# Devices\n\n{devices_page.HEADING}\nNone could be had.\n")
    for seen in ("first", "second | third"):
        results = (Result(True, seen), Result(None, "no"), Result(False, "bad"))
        devices_page.write(list(zip(GPU_ROWS, results, strict=False)), "1 × H100", file)
    text = file.read_text()
    assert text.startswith(f"# Devices\n\n{devices_page.HEADING}\n1 × H100; by")
    assert "None could be had" not in text and "first" not in text
    assert f"| masks | {GPU_ROWS[0].promise} | as promised | second / third |" in text
    assert "| not tried | no |" in text and "| **not as promised** | bad |" in text


@WITH_COMPILER
@pytest.mark.timeout(600)
@pytest.mark.thorough
def test_every_gpu_row_passes_with_a_fake_driver(tmp_path: Path) -> None:
    """MIG is not tried, as the fake CUDA lacks it."""
    environment = os.environ | build_driver(tmp_path) | {"CUDA_VISIBLE_DEVICES": "3,5"}
    done = run_script("gpu_check", env=environment, timeout_s=600)
    cells = [line.removeprefix("| ").split(" | ") for line in done.stdout.splitlines() if line[:1] == "|"]
    rows = {name: how for name, _, how, _ in cells[2:]}
    expected = {row.name: "not tried" if row.name == "mig" else "as promised" for row in GPU_ROWS}
    assert rows == expected, done.stdout
    assert done.returncode == 0


TIMES = {"begins_s": 4.0, "run_s": 1.25, "back_s": 0.1}
GOOD = TableRun(finished=RUNS, reasons=[], equal=RUNS, best_is_right=True, said=RUNS, left=[], **TIMES)
ALONE = Alone(took_s=3.0, left=[])
SKLEARN, XGBOOST, *_ = ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_framework_row_has_an_environment_and_a_script_that_reports_start_and_metric(
    row: Row,
) -> None:
    script = (MAINS / row.script).read_text()
    assert row.environment in PACKAGES
    assert BEGUN in script and f'"{row.metric}": ' in script and "results" in script


def test_a_framework_row_shows_times_and_faults_of_both_sweeps_and_keeps_other_rows(
    tmp_path: Path,
) -> None:
    bad = replace(
        GOOD, finished=5, reasons=["exit 3"], best_is_right=False, left=["/dev/shm/sem.mp-*"], back_s=None
    )
    cells = page.cells(ALONE, GOOD, bad)
    assert cells[:4] == ["11 of 12: exit 3", "12 of 12, `best` is wrong", "12 of 12", "`/dev/shm/sem.mp-*`"]
    assert cells[4:] == ["3.0", "4.0 / 4.0", "1.2 / 1.2", "0.1 / –"]
    file = tmp_path / "frameworks.md"
    for row, finished in ((XGBOOST, 5), (SKLEARN, 6), (XGBOOST, 4)):
        page.write(row, page.cells(ALONE, replace(GOOD, finished=finished), None), ["script", "1.0"], file)
    lines = [line.split(" | ") for line in file.read_text().splitlines()]
    done = {cells[0].removeprefix("| "): cells[1] for cells in lines if len(cells) > 5}
    assert (done[SKLEARN.title], done[XGBOOST.title]) == ("6 of 6", "4 of 6")


@pytest.mark.parametrize(
    "change",
    [{"finished": 5}, {"equal": 5}, {"said": 5}, {"best_is_right": False}, {"left": ["x"]}, {"back_s": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_sweep_of_the_table_is_whole_only_without_any_fault(change: dict[str, object]) -> None:
    assert GOOD.whole
    assert not replace(GOOD, **change).whole  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("sem.loky-123-a_b3c4d5", "sem.loky-*-*"),
        ("sem.mp-0a1b2c3d", "sem.mp-*"),
        ("torch_123_456_7", "torch_*_*_*"),
        ("tmpab3_d5fgwandb-media", "tmp*wandb-media"),
        ("wandb-26804-26808-4061125046", "wandb-*-*-*"),
        ("torchinductor_root", "torchinductor_root"),
    ],
)
def test_leftover_files_of_one_kind_share_a_pattern(name: str, known: str) -> None:
    assert kind(name) == known


def test_one_line_names_the_missing_programs_of_skipped_tests_and_their_installation() -> None:
    chromium = "Skipped: no Chromium is installed (Debian: apt-get install chromium)"
    slurm = f"Skipped: Slurm is not installed: no sbatch (Debian: apt-get install {SLURM_PACKAGES})"
    assert summarize_missing(["Skipped: Linux alone"]) == ""
    assert summarize_missing([slurm, chromium, chromium, "Skipped: Linux alone"]) == (
        "3 skipped: no Chromium is installed (2); Slurm is not installed: no sbatch (1)."
        " To run them (Debian): apt-get install slurm-client slurmctld slurmd chromium"
    )

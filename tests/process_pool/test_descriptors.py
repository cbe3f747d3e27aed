from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.processes.environment import PER_WORKER, SPARE, count_open, soft_limit_for

INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize("soft", [1024, INFINITY])
def test_a_limit_that_is_enough_stays(soft: int) -> None:
    assert soft_limit_for(64, already_open=10, soft=soft, hard=INFINITY) == soft


@pytest.mark.parametrize("hard", [4096, INFINITY])
def test_a_soft_limit_that_is_too_low_is_raised_to_what_is_needed(hard: int) -> None:
    assert soft_limit_for(64, already_open=10, soft=256, hard=hard) == 10 + SPARE + 64 * PER_WORKER


def test_a_hard_limit_that_is_too_low_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"64 workers need \d+ open files, .* 256 .*lower hpo\.workers"):
        soft_limit_for(64, already_open=10, soft=128, hard=256)


def test_open_files_are_counted() -> None:
    before = count_open()
    reader, writer = os.pipe()
    assert count_open() == before + 2
    os.close(reader)
    os.close(writer)


def test_the_limit_of_the_process_is_raised() -> None:
    program = (
        "import resource\n"
        "from parallel_hpo.processes.environment import make_room_for\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "make_room_for(20)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100

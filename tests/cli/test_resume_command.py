"""The command that the terminal names after a sweep that ended early."""

from __future__ import annotations

from parallel_hpo.cli.run import deadline_has_passed, resume_command


def command(*words: str, found: str | None = "/env/bin/parallel-hpo", over: bool = False) -> str:
    return resume_command(
        words, "abc", find=lambda name: found, interpreter="/env/bin/python", deadline_has_passed=over
    )


def test_the_command_to_resume_is_the_original_one_with_the_sweeps_id() -> None:
    typed = command(
        "/env/bin/parallel-hpo", "run", "my c.json", "t.py:f", "--count", "6", "--", "--resume", "x"
    )
    assert typed == "parallel-hpo run 'my c.json' t.py:f --count 6 --resume abc -- --resume x"


def test_the_command_to_resume_names_the_sweep_once() -> None:
    assert command("/env/bin/parallel-hpo", "run", "c.json", "--resume", "old") == (
        "parallel-hpo run c.json --resume abc"
    )
    assert command("/env/bin/parallel-hpo", "run", "--sweep-id=old", "c.json") == (
        "parallel-hpo run c.json --resume abc"
    )


def test_a_command_that_is_not_on_the_path_is_named_by_its_file() -> None:
    assert command("/env/bin/parallel-hpo", "run", "c.json", found=None) == (
        "/env/bin/parallel-hpo run c.json --resume abc"
    )
    assert command("/site/parallel_hpo/__main__.py", "run", "c.json", found=None) == (
        "/env/bin/python -m parallel_hpo run c.json --resume abc"
    )


def test_a_passed_deadline_is_not_repeated_in_the_command_to_resume() -> None:
    for given in (["--deadline", "2026-12-24 18:00"], ["--deadline=2026-12-24 18:00"], []):
        typed = command("/env/bin/parallel-hpo", "run", "c.json", *given, over=True)
        assert typed == "parallel-hpo run c.json --deadline null --resume abc"
    kept = command("/env/bin/parallel-hpo", "run", "c.json", "--deadline", "3h")
    assert kept == "parallel-hpo run c.json --deadline 3h --resume abc"


def test_only_a_time_of_day_is_a_passed_deadline() -> None:
    at, reason = "2026-12-24T18:00:00+01:00", "deadline 2026-12-24T18:00:00+01:00: no run starts"
    assert deadline_has_passed(at, reason)
    assert not deadline_has_passed(at, "SIGINT")
    assert not deadline_has_passed("3h", "deadline 3h")
    assert not deadline_has_passed(None, "sweep timeout 4 s")

"""The command that the terminal names after a sweep that ended early."""

from __future__ import annotations

from parallel_hpo.cli.run import go_on_command


def command(*words: str, found: str | None = "/env/bin/parallel-hpo") -> str:
    return go_on_command(words, "abc", find=lambda name: found, interpreter="/env/bin/python")


def test_it_is_the_launch_itself_with_the_sweep_to_be_resumed_before_what_is_the_targets() -> None:
    typed = command(
        "/env/bin/parallel-hpo", "run", "my c.json", "t.py:f", "--count", "6", "--", "--resume", "x"
    )
    assert typed == "parallel-hpo run 'my c.json' t.py:f --count 6 --resume abc -- --resume x"


def test_a_sweep_that_was_named_before_is_named_once() -> None:
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

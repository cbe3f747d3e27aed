from __future__ import annotations

from parallel_hpo.supervisor.records.failed_runs import find_traceback, without_secrets

PRINTED = """wandb: setting up run
epoch 1
Traceback (most recent call last):
  File "train.py", line 1, in <module>
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 3, in <module>
ValueError: bad
with two lines
wandb: 🚀 View run
"""


def test_a_traceback_is_found_with_what_it_was_raised_from() -> None:
    assert find_traceback(PRINTED.splitlines()).splitlines() == PRINTED.splitlines()[2:-1]


def test_an_earlier_traceback_that_was_survived_is_none_of_it() -> None:
    printed = ["Traceback (most recent call last):", "KeyError: 'a'", "went on", *PRINTED.splitlines()]
    assert find_traceback(printed) == find_traceback(PRINTED.splitlines())


def test_the_stacks_of_a_dying_interpreter_are_a_traceback_too() -> None:
    printed = ["epoch 1", "Fatal Python error: Segmentation fault", "", "Current thread 0x1 (most recent"]
    assert find_traceback(printed).splitlines() == printed[1:]


def test_where_nothing_was_raised_there_is_no_traceback() -> None:
    assert find_traceback(["epoch 1"]) == ""


def test_variables_with_a_secrets_name_are_left_out_and_passwords_in_addresses() -> None:
    shown = without_secrets(
        {
            "WANDB_API_KEY": "1",
            "my_passwd": "2",
            "GitHubToken": "3",
            "CLIENT_SECRET_ID": "4",
            "PARALLEL_HPO_NOTIFY": '["tgram://5/6"]',
            "PROXY": "http://me:7@host:1/",
            "URL": "http://host",
        }
    )
    assert shown == {"PROXY": "http://…@host:1/", "URL": "http://host"}

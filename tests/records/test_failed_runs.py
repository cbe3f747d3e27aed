from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.analysis.table import RunSummary
from parallel_hpo.session.hooks import FailedRun, find_traceback, without_secrets, write_failed_run

A_RUN = RunSummary("r1", {}, 1, "failed", "bad key 12345678", None, 0, None)
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


def test_an_earlier_traceback_that_was_handled_is_not_part_of_it() -> None:
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


def test_more_names_say_that_a_variable_is_secret_but_working_directories_are_shown() -> None:
    names = (
        "MY_AUTH",
        "AUTHORIZATION",
        "GCP_CREDENTIALS",
        "SENTRY_DSN",
        "COOKIE",
        "SLACK_WEBHOOK",
        "MYSQL_PWD",
    )
    fine = {"PWD": "/a", "OLDPWD": "/b", "AUTHOR": "me"}
    assert without_secrets(dict.fromkeys(names, "1") | fine) == fine


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://me:a/b@host/x", "postgresql://…@host/x"),
        ("https://host/x?token=abc&n=1", "https://host/x?token=…&n=1"),
        ("https://hooks.slack.com/services/T0/B0/x", "https://hooks.slack.com/…"),
        ("host=h password=abc", "host=h password=…"),
        ("sk-proj-abcdef-ghijkl", "…"),
        ("0123456789abcdef0123456789abcdef01234567", "…"),
        ("/usr/lib/python3.11:/opt/x86_64-linux-gnu", "/usr/lib/python3.11:/opt/x86_64-linux-gnu"),
        ("GPU-5fd4b087-86f3-7a43-b711-4771313afc50", "GPU-5fd4b087-86f3-7a43-b711-4771313afc50"),
    ],
)
def test_a_value_that_looks_like_a_secret_is_masked_whatever_its_name(value: str, shown: str) -> None:
    assert without_secrets({"OTHER": value}) == {"OTHER": shown}


def test_the_owner_alone_reads_a_failed_runs_folder_and_printed_secrets_are_masked(tmp_path: Path) -> None:
    folder = tmp_path / "failed" / "r1"
    folder.mkdir(parents=True)  # as another umask has left it
    (folder / "output.log").touch(0o666)
    failed = FailedRun(A_RUN, "", ["the key is 12345678"], {"MY_KEY": "12345678"})
    write_failed_run(folder, failed, {"reason": A_RUN.reason})
    modes = {each.stat().st_mode & 0o777 for each in folder.iterdir()}
    assert (folder.parent.stat().st_mode & 0o777, folder.stat().st_mode & 0o777, modes) == (
        0o700,
        0o700,
        {0o600},
    )
    assert [each.name for each in folder.iterdir() if "12345678" in each.read_text()] == []
    assert (folder / "output.log").read_text() == "the key is …\n"
    assert (folder / "reason.txt").read_text() == "failed: bad key …\n"

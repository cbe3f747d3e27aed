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


TRACEBACK = PRINTED.splitlines()[2:-1]
HANDLED = ["Traceback (most recent call last):", "KeyError: 'a'", "went on"]
STACKS = ["Fatal Python error: Segmentation fault", "", "Current thread 0x1 (most recent"]


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (PRINTED.splitlines(), TRACEBACK),
        ([*HANDLED, *PRINTED.splitlines()], TRACEBACK),
        (["epoch 1", *STACKS], STACKS),
        (["epoch 1"], []),
    ],
    ids=["with its cause", "without a handled one", "a fatal interpreter error", "none"],
)
def test_a_failed_runs_traceback_is_found(printed: list[str], found: list[str]) -> None:
    assert find_traceback(printed).splitlines() == found


def test_variables_with_a_secrets_name_are_left_out() -> None:
    names = (
        *("WANDB_API_KEY", "my_passwd", "GitHubToken", "CLIENT_SECRET_ID", "PARALLEL_HPO_NOTIFY", "MY_AUTH"),
        *("AUTHORIZATION", "GCP_CREDENTIALS", "SENTRY_DSN", "COOKIE", "SLACK_WEBHOOK", "MYSQL_PWD"),
    )
    fine = {"PWD": "/a", "OLDPWD": "/b", "AUTHOR": "me"}
    assert without_secrets(dict.fromkeys(names, "1") | fine) == fine


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://me:a/b@host/x", "postgresql://…@host/x"),
        ("http://me:7@host:1/", "http://…@host:1/"),
        ("http://host", "http://host"),
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


def test_a_failed_runs_folder_is_private_and_printed_secrets_are_masked(tmp_path: Path) -> None:
    folder = tmp_path / "failed" / "r1"
    folder.mkdir(parents=True)  # as another umask has left it
    (folder / "output.log").touch(0o666)
    failed = FailedRun(A_RUN, "", ["the key is 12345678"], {"MY_KEY": "12345678"})
    write_failed_run(folder, failed, {"reason": A_RUN.reason})
    modes = {each.stat().st_mode & 0o777 for each in folder.iterdir()}
    assert modes == {0o600}
    assert {each.stat().st_mode & 0o777 for each in (folder.parent, folder)} == {0o700}
    assert [each.name for each in folder.iterdir() if "12345678" in each.read_text()] == []
    assert (folder / "output.log").read_text() == "the key is …\n"
    assert (folder / "reason.txt").read_text() == "failed: bad key …\n"

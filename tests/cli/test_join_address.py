"""`parallel-hpo join` warns before it sends its key in clear."""

from __future__ import annotations

import pytest

from parallel_hpo.cli import join
from parallel_hpo.core.errors import BackendError


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.7:8080", True),
        ("HTTP://head.example:8080", True),
        ("http://localhost.example", True),
        ("https://head.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_plain_http_to_another_host_sends_the_key_in_clear(url: str, *, warned: bool) -> None:
    assert join.sends_key_in_clear(url) is warned


def test_join_warns_about_plain_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(_: object) -> None:
        raise BackendError("unreachable")

    monkeypatch.setattr(join, "_read_facts", unreachable)
    environment = {"WANDB_BASE_URL": "http://10.0.0.7:8080", "WANDB_API_KEY": "k" * 40}
    with pytest.raises(BackendError, match="unreachable"):
        join._find_task("abc", None, environment)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "warning: http://10.0.0.7:8080 is plain HTTP" in said[0]

"""No help text, signature, repr, one-time token or cookie shows a key or the environment."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pydoc
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallel_hpo
from parallel_hpo.core import keys
from parallel_hpo.core.keys import worker_key

SECRET: Final = "5ecre7" * 7
SECRET_FIELDS: Final = {"environment", "payload", "key", "api_key", "master_key"}
"""Fields that hold an environment, keys, or whatever a user's `main` refers to."""


def modules() -> Iterator[ModuleType]:
    """Yield all modules except those that act when imported."""
    for found in walk_packages(parallel_hpo.__path__, "parallel_hpo."):
        if not found.name.endswith(("__main__", "migrations.env")) and ".versions." not in found.name:
            yield import_module(found.name)


def shown(owner: ModuleType | type[Any], name: str) -> Iterator[tuple[str, str]]:
    """Yield the signatures of functions, classes and methods, and the reprs of a module's values."""
    for label, member in vars(owner).items():
        if isinstance(member, type) and member is not owner and member.__module__ == name:
            yield from shown(member, name)
        if callable(member) and getattr(member, "__module__", name) == name:
            with suppress(ValueError):
                yield f"{name}: {label}", str(inspect.signature(member))
        elif isinstance(owner, ModuleType) and not label.startswith("__"):
            yield f"{name}: {label}", repr(member)


def test_no_help_text_or_signature_shows_the_environment() -> None:
    known_to_the_environment = os.environ["PATH"]
    texts = [text for module in modules() for text in shown(module, module.__name__)]
    for public in (parallel_hpo.HPO, parallel_hpo.ConfigLoader):
        texts.append((public.__name__, pydoc.plain(pydoc.render_doc(public))))
    assert len(texts) > 1000
    assert [where for where, text in texts if known_to_the_environment in text] == []


def test_no_repr_shows_an_environment_or_a_key() -> None:
    members = {member for module in modules() for member in vars(module).values() if isinstance(member, type)}
    ours = (kind for kind in members if kind.__module__.startswith("parallel_hpo."))
    kinds = [kind for kind in ours if dataclasses.is_dataclass(kind)]
    assert len(kinds) > 50
    assert [kind for kind in kinds if SECRET in repr(_filled(kind))] == []


def _filled(kind: type[Any]) -> Any:
    """Return an instance with a secret wherever there may be one."""
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        secret = {"WANDB_API_KEY": SECRET} if field.name in SECRET_FIELDS else None
        object.__setattr__(made, field.name, secret)
    return made


MASTER = "0123456789" * 4
OTHER = "9876543210" * 4
NOW = 1_700_000_000.0


def test_a_one_time_token_has_its_time_of_issue_and_a_unique_name() -> None:
    key = keys.ticket_key(MASTER)
    first, second = (keys.read(key, keys.issue(key, NOW)) for _ in range(2))
    assert first is not None and second is not None
    assert first.issued_at == NOW
    assert first.name != second.name


@given(st.text())
def test_arbitrary_text_is_no_one_time_token_and_no_viewing_pass(text: str) -> None:
    assert keys.read(keys.ticket_key(MASTER), text) is None
    assert not keys.may_view(MASTER, text, NOW)


def test_a_changed_one_time_token_or_one_of_another_server_is_refused() -> None:
    key = keys.ticket_key(MASTER)
    issued, name, mac = keys.issue(key, NOW).split("-")
    assert keys.read(key, f"{int(issued) + 1}-{name}-{mac}") is None
    assert keys.read(key, f"{issued}-{name[::-1]}-{mac}") is None
    assert keys.read(key, keys.issue(keys.ticket_key(OTHER), NOW)) is None


def test_a_viewing_pass_is_valid_on_its_server_until_it_expires() -> None:
    given = keys.viewing_pass(MASTER, NOW)
    assert keys.may_view(MASTER, given, NOW + keys.PASS_VALID_S - 1)
    assert not keys.may_view(MASTER, given, NOW + keys.PASS_VALID_S + 1)
    for other in (OTHER, keys.ticket_key(MASTER), worker_key(MASTER, "w0")):
        assert not keys.may_view(MASTER, keys.viewing_pass(other, NOW), NOW)


@pytest.mark.parametrize("secret", [MASTER, keys.ticket_key(MASTER)])
def test_no_key_is_in_a_login_link_or_viewing_pass(secret: str) -> None:
    address = keys.with_ticket("http://127.0.0.1:1/local/p", keys.ticket_key(MASTER), NOW)
    assert secret not in address
    assert secret not in keys.viewing_pass(MASTER, NOW)

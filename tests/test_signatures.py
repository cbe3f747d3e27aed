"""No help text, signature or repr shows what the environment holds: keys are in it."""

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

import parallel_hpo

SECRET: Final = "5ecre7" * 7
SECRET_FIELDS: Final = {"environment", "payload", "key", "api_key", "master_key"}
"""Fields that hold an environment, keys, or whatever a user's `main` refers to."""


def modules() -> Iterator[ModuleType]:
    """All modules but those that act when they are imported."""
    for found in walk_packages(parallel_hpo.__path__, "parallel_hpo."):
        if not found.name.endswith(("__main__", "migrations.env")) and ".versions." not in found.name:
            yield import_module(found.name)


def shown(owner: ModuleType | type[Any], name: str) -> Iterator[tuple[str, str]]:
    """What is shown of the values, functions and classes in a module, and of the methods in a class."""
    for label, member in vars(owner).items():
        if isinstance(member, type) and member is not owner and member.__module__ == name:
            yield from shown(member, name)
        if callable(member) and getattr(member, "__module__", name) == name:
            with suppress(ValueError):
                yield f"{name}: {label}", str(inspect.signature(member))
        elif isinstance(owner, ModuleType) and not label.startswith("__"):
            yield f"{name}: {label}", repr(member)


def test_no_help_and_no_signature_shows_the_environment() -> None:
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

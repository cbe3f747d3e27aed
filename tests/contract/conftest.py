from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_clean_env
from tests.contract.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file."""
    folder: Path = tmp_path_factory.mktemp("server")
    with serving(folder, make_clean_env(folder / "home")) as server:
        yield server

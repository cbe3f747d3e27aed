from __future__ import annotations

import pytest

from tests.distribution.building import Built, build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the sdist of the working tree."""
    return build(tmp_path_factory.mktemp("dist"))

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel_hpo.cluster.hosted import HostedEngine
from tests.cluster.nodes import HeldNode
from tests.processes.conftest import RealSweep, sweep_in


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSweep]:
    """A sweep to be started, whose environment is the cluster's."""
    with sweep_in(tmp_path_factory.mktemp("sweep")) as made:
        yield made


@pytest.fixture
def engine(client: HostedEngine) -> Iterator[HostedEngine]:
    """An engine without a node, which a file's tests have one after the other."""
    yield client
    client.stop()
    client.ended()


@pytest.fixture
def node(tmp_path: Path) -> HeldNode:
    return HeldNode(tmp_path / "told")

"""The operations that the installed client carries, checked against the schema without sending them."""

from __future__ import annotations

import re

import pytest
from graphql import parse, validate

from parallel_hpo.server.graphql.execute import load_schema
from tests.contract.moves import client_folder

OF_WANDB_CORE = (
    "CreateRunFiles",
    "EnqueueSweepRun",
    "HistoryPage",
    "OrganizationCoreWeaveOrganizationID",
    "RunParquetHistory",
    "RunResumeStatus",
    "RunState",
    "SampledHistoryPage",
    "ServerFeaturesQuery",
    "StopRun",
    "SweepConfig",
    "SweepRunsWithHistory",
    "SweepWatchedRuns",
    "UpsertBucket",
    "UpsertSweepState",
    "Viewer",
)
OF_THE_API = (
    "GetAgentRuns",
    "GetDefaultEntity",
    "GetProject",
    "GetProjects",
    "GetSweep",
    "GetSweepAgent",
    "GetSweepAgents",
    "GetSweepLegacy",
    "GetSweeps",
    "GetViewer",
    "IsProjectReadOnly",
)


def documents(text: str) -> dict[str, str]:
    """The GraphQL documents in a text, each with its fragments, by the name of their operation."""
    found = re.finditer(r"(?:query|mutation) (\w+) ?[({].*?\n}\n(?:\s*fragment .*?\n}\n)*", text, re.DOTALL)
    return {match[1]: match[0] for match in found}


@pytest.fixture(scope="module")
def operations() -> dict[str, str]:
    """The operations of wandb-core and of wandb.Api()."""
    api = (client_folder() / "apis/_generated/operations.py").read_text()
    core = (client_folder() / "bin/wandb-core").read_bytes().decode("latin-1")
    return documents(api) | documents(core)


@pytest.mark.leans_on_wandb
@pytest.mark.parametrize("name", [*OF_WANDB_CORE, *OF_THE_API])
def test_an_operation_of_the_client_is_understood(operations: dict[str, str], name: str) -> None:
    if name not in operations:
        pytest.skip("this version of the client has no such operation")
    assert validate(load_schema(), parse(operations[name])) == []

"""Two server processes on one database, and agents that talk to either."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server.acting import grid

POINTS = 60
AGENTS = 4


class Address:
    """One of the servers, asked as wandb's clients ask."""

    def __init__(self, said: dict[str, str]) -> None:
        self._url = said["url"]
        token = base64.b64encode(f"api:{said['api_key']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self._url + path, data=json.dumps(body).encode(), headers=self._headers
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def mutate(self, field: str, selection: str, kind: str, values: dict[str, Any]) -> Any:
        query = f"mutation M($input: {kind}!) {{ {field}(input: $input) {{ {selection} }} }}"
        return self.post("/graphql", {"query": query, "variables": {"input": values}})["data"][field]

    def work_until_the_end(self, sweep: str) -> list[int]:
        """Be an agent that finishes each run at once, and return the points that it was given."""
        answer = self.mutate("createAgent", "agent { id }", "CreateAgentInput", {"host": "h", "sweep": sweep})
        agent = answer["agent"]["id"]
        points: list[int] = []
        while True:
            beat = {"id": agent, "runState": "{}"}
            answer = self.mutate("agentHeartbeat", "commands", "AgentHeartbeatInput", beat)
            for command in json.loads(answer["commands"]):
                if command["type"] == "exit":
                    return points
                points.append(command["args"]["x"]["value"])
                run = {"name": command["run_id"], "sweep": sweep, "modelName": "p"}
                self.mutate("upsertBucket", "inserted", "UpsertBucketInput", run)
                self.post(
                    f"/files/local/p/{command['run_id']}/file_stream", {"complete": True, "exitcode": 0}
                )


@pytest.fixture
def servers(clean_env: dict[str, str], tmp_path: Path) -> Iterator[list[Address]]:
    """Two processes that share a database."""
    command = [sys.executable, "-m", "parallel_hpo.server", "--database", str(tmp_path / "server.db")]
    root = Path(__file__).parents[2]
    with ExitStack() as stack:
        addresses = []
        for _ in range(2):
            process = subprocess.Popen(command, env=clean_env, cwd=root, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.terminate)
            assert process.stdout is not None
            addresses.append(Address(json.loads(process.stdout.readline())))
        yield addresses


def test_two_processes_hand_out_each_point_of_a_grid_once(servers: list[Address]) -> None:
    wishes = {"config": yaml.dump(grid(POINTS)), "projectName": "p"}
    answer = servers[0].mutate("upsertSweep", "sweep { name }", "UpsertSweepInput", wishes)
    sweep = answer["sweep"]["name"]
    with ThreadPoolExecutor(AGENTS) as threads:
        shares = threads.map(lambda i: servers[i % 2].work_until_the_end(sweep), range(AGENTS))
        points = [point for share in shares for point in share]
    assert sorted(points) == list(range(POINTS))

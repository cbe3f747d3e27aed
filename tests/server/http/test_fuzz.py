"""Over 10,000 malformed requests: none causes a server error, and none changes stored data."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLInputType, GraphQLList, GraphQLNonNull

from parallel_hpo.server.graphql.execute import load_schema
from tests.server.application import Web
from tests.server.server_logic import Services, grid

PARTS = [("sqlite", 0), ("sqlite", 1), ("sqlite", 2), ("sqlite", 3), ("postgresql", 4)]
REQUESTS = 2_500
ROWS = tuple(json.dumps({"_step": step, "loss": step}) for step in range(10))
NAMES = [
    "",
    "r",
    "../../etc/passwd",
    "a/../b",
    "%2e%2e%2f",
    "\x00",
    "-1",
    "' OR 1 --",
    "ü" * 300,
    "n" * 3000,
]
IDS = ["run:999", "run:x", "file:999:a"]
IDS += ["QXJ0aWZhY3Q6MQ==", "QXJ0aWZhY3RDb2xsZWN0aW9uOjE=", "1B2M2Y8AsgTpgAmY7PhCfg=="]
NUMBERS = [0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, True]
PATHS = [
    "/graphql",
    "/files/local/p/r/file_stream",
    "/files/local/p/nobody/file_stream",
    "/uploads/1/a",
    "/uploads/blobs/..%2f..%2fx?expires=9999999999&signature=x",
    "/downloads/1/config.yaml?expires=1e9&signature=%ff",
    "/downloads/manifests/1.json?expires=99999999999999999999",
    "/hpo/sweeps/local/p/s",
    "/hpo/sweeps/local/p/s/release",
    "/hpo/sweeps/local/p/s/state",
    "/hpo/sweeps/local/p/s/runs/r/end",
    "/hpo/health",
    "/nothing/%00/..%2f",
]
STREAMED = ["wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log", "other", "../x"]


class Fuzzer:
    """Makes requests that no client sends."""

    def __init__(self, source: Random) -> None:
        self._source = source
        mutation = load_schema().mutation_type
        assert mutation is not None
        self._mutations = list(mutation.fields.items())

    def value(self, depth: int = 3) -> Any:
        """Return some JSON value."""
        pick = self._source.choice
        kinds: list[Callable[[], Any]] = [
            lambda: None,
            lambda: pick(NUMBERS),
            lambda: pick(NAMES),
            lambda: float("nan"),
            lambda: json.dumps(self.value(0)),
            lambda: "[" * 5000,
        ]
        if depth:
            kinds += [
                lambda: [self.value(depth - 1) for _ in range(self._source.randrange(4))],
                lambda: {pick(NAMES): self.value(depth - 1) for _ in range(self._source.randrange(4))},
            ]
        return pick(kinds)()

    def typed(self, kind: GraphQLInputType) -> Any:
        """Return a value that mostly has this type, so that it reaches what is behind the schema."""
        if self._source.random() < 0.03:
            return self.value()
        if isinstance(kind, GraphQLNonNull):
            return self.typed(kind.of_type)
        if isinstance(kind, GraphQLList):
            return [self.typed(kind.of_type) for _ in range(self._source.randrange(3))]
        if isinstance(kind, GraphQLInputObjectType):
            fields = [
                (name, field)
                for name, field in kind.fields.items()
                if isinstance(field.type, GraphQLNonNull) or self._source.random() < 0.6
            ]
            return {name: self.typed(field.type) for name, field in fields}
        if kind.name in ("Int", "Int64"):
            return self._source.choice([0, -1, 7, 2**31 - 1])
        return kind.name == "Boolean" or self._source.choice(NAMES + IDS)

    def mutation(self) -> dict[str, Any]:
        """Return a mutation of the schema with wrong input."""
        name, field = self._source.choice(self._mutations)
        kind = field.args["input"].type
        query = f"mutation M($i: {kind}) {{ {name}(input: $i) {{ __typename }} }}"
        return {"query": query, "variables": {"i": self.typed(kind)}}

    def file(self) -> Any:
        """Return a file of a run's stream, with lines that mostly aren't JSON."""
        odd = ["{", "[]", "NaN", '{"_step": 1e400, "a": NaN}', json.dumps({"_step": 10**30})]
        texts = [*ROWS[:2], *odd, *NAMES]
        content = [self._source.choice(texts) for _ in range(self._source.randrange(4))]
        return {"offset": self._source.choice([0, 1, *NUMBERS]), "content": content}

    def chunk(self) -> Any:
        """Return a body of a run's stream that no client sends."""
        pick = self._source.choice
        files = {pick(STREAMED): pick([self.value, self.file])() for _ in range(2)}
        ending = {"complete": self.value(0), "exitcode": self.value(0), "preempting": self.value(0)}
        return pick([self.value(), {"files": files}, {"files": files} | ending])

    def body(self, path: str) -> bytes:
        """Return the bytes of a body."""
        made = self.mutation() if path == "/graphql" else self.chunk()
        content = json.dumps(made).encode()
        shape = self._source.randrange(15)
        if shape == 0:
            return content[: self._source.randrange(len(content) + 1)]
        if shape == 1:
            return bytes(self._source.randrange(256) for _ in range(20))
        return b"[" * 100_000 if shape == 2 and self._source.random() < 0.05 else content


@pytest.mark.parametrize(("services", "seed"), PARTS, indirect=["services"])
def test_malformed_requests_do_no_harm(services: Services, seed: int) -> None:
    source = Random(seed)
    fuzzer = Fuzzer(source)
    sweep = services.sweep(grid(5))
    for name in ("kept", "r"):
        services.upsert(name)
    services.log("kept", *range(10), exitcode=0)
    requests = []
    for _ in range(REQUESTS):
        path = source.choice(PATHS[:3]) if source.random() < 0.7 else source.choice(PATHS)
        method = "POST" if source.random() < 0.9 else source.choice(["GET", "PUT", "DELETE", "PATCH"])
        requests.append((method, path, fuzzer.body(path)))
    with Web(services) as web:
        answers = zip(requests, web.answers(*requests), strict=True)
        assert [(*request, text) for request, (status, text) in answers if status >= 500] == []
        query = 'query Q { project(name: "p") { run(name: "kept") { state history(samples: 100) } } }'
        kept = web.ask(query)["data"]["project"]["run"]
    assert kept == {"state": "finished", "history": list(ROWS)}
    assert services.issued(services.agent(sweep))
    assert not (services.folder.parent / "x").exists()

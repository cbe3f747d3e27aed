"""The stream of a run: each line is stored once and in order, and the exit code ends the run."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Batch, Chunk, read_chunk
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.lines import StepRange, Stream
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import Services

FIRST = '{"_step": 0, "loss": NaN}'
SECOND = '{"_step": 1, "loss": 0.5}'
THIRD = '{"_step": 2, "loss": 0.25}'


@pytest.fixture
def name(services: Services) -> str:
    return services.upsert("r1").name


def history(services: Services, name: str, steps: StepRange | None = None) -> list[str]:
    with services.world.database.read() as transaction:
        return list(lines.texts(transaction, services.run(name).id, Stream.HISTORY, steps or StepRange()))


def rows(offset: int, *texts: str) -> Chunk:
    return Chunk((Batch(Stream.HISTORY, offset, texts),))


STREAMS: dict[str, tuple[list[Chunk], list[str], int]] = {
    "a repeated chunk changes nothing": ([rows(0, FIRST, SECOND)] * 2, [FIRST, SECOND], 2),
    "a late first chunk drops no later lines": (
        [rows(0, FIRST), rows(1, SECOND), rows(0, FIRST)],
        [FIRST, SECOND],
        2,
    ),
    "a row that is sent again under a later number is there once": (
        [rows(0, FIRST, SECOND), rows(2, FIRST, SECOND, THIRD)],
        [FIRST, SECOND, THIRD],
        5,
    ),
    "rows that were all sent before change nothing": (
        [rows(0, FIRST, SECOND), rows(2, FIRST)],
        [FIRST, SECOND],
        2,
    ),
    "rows without a step are all kept": (
        [rows(0, '{"loss": 1}'), rows(1, '{"loss": 1}')],
        ['{"loss": 1}', '{"loss": 1}'],
        2,
    ),
}


@pytest.mark.parametrize(("chunks", "kept", "known"), STREAMS.values(), ids=STREAMS)
def test_each_row_is_kept_once(
    services: Services, name: str, chunks: list[Chunk], kept: list[str], known: int
) -> None:
    for chunk in chunks:
        services.stream(name, chunk)
    assert history(services, name) == kept
    run = services.run(name)
    assert run.history_lines == known
    (counted,) = json.loads(run.history_keys)["keys"]["loss"]["typeCounts"]
    assert counted == {"type": "number", "count": len(kept)}


def test_history_can_be_read_by_steps(services: Services, name: str) -> None:
    services.stream(name, rows(0, FIRST, SECOND))
    assert history(services, name, StepRange(1, 2)) == [SECOND]


def test_a_run_is_asked_to_stop_until_its_exit_code_ends_it(services: Services, name: str) -> None:
    assert not services.stream(name, Chunk())
    services.request_stop(name)
    assert services.stream(name, Chunk())
    services.end(name, exitcode=1)
    services.stream(name, Chunk())
    assert (services.run(name).state, services.run(name).exitcode) == (RunState.KILLED, 1)


def test_an_unknown_run_is_not_found(services: Services) -> None:
    with pytest.raises(RefusedError, match="doesn't exist") as refusal:
        services.stream("nobody", Chunk())
    assert refusal.value.status == 404


def test_a_chunk_with_an_invalid_line_is_refused_as_a_whole(services: Services, name: str) -> None:
    with pytest.raises(RefusedError, match="a line is not valid JSON"):
        services.stream(name, rows(0, FIRST, "{"))
    assert history(services, name) == []


def test_a_request_of_wandbs_client_is_read() -> None:
    body = {
        "files": {
            "output.log": {"offset": 3, "content": ["hello"]},
            "wandb-summary.json": {"offset": 0, "content": ['{"loss": 1}']},
            "unknown.txt": {"offset": 0, "content": ["x"]},
        },
        "uploaded": ["config.yaml"],
        "complete": True,
        "exitcode": 0,
    }
    said = Batch(Stream.CONSOLE, 3, ("hello",))
    assert read_chunk(body) == Chunk(batches=(said,), summary='{"loss": 1}', exitcode=0)
    assert read_chunk({}) == Chunk()


@pytest.mark.parametrize(
    "file",
    [
        [],
        {"offset": -1, "content": []},
        {"offset": 10**12, "content": []},
        {"offset": True, "content": []},
        {"offset": 0, "content": "text"},
        {"offset": 0, "content": [1]},
    ],
)
def test_a_malformed_request_is_refused(file: Any) -> None:
    bodies: list[Any] = [[], {"files": []}, {"files": {"output.log": file}}]
    for body in bodies:
        with pytest.raises(RefusedError) as refusal:
            read_chunk(body)
        assert refusal.value.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values | st.fixed_dictionaries({"files": st.dictionaries(st.just("output.log"), json_values)}))
def test_any_json_is_read_or_refused(body: Any) -> None:
    with suppress(RefusedError):
        assert isinstance(read_chunk(body), Chunk)

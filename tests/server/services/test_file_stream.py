from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.file_stream import Batch, Chunk, read_chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.lines import StepRange, Stream
from parallel_hpo.server.values import RefusedError
from tests.server.acting import Services

FIRST = '{"_step": 0, "loss": NaN}'
SECOND = '{"_step": 1, "loss": 0.5}'


@pytest.fixture
def name(services: Services) -> str:
    run_service.upsert(services.world, RunUpsert(name="r1", project="p"))
    return "r1"


def history(services: Services, name: str, steps: StepRange | None = None) -> list[str]:
    with services.world.database.read() as transaction:
        return list(lines.texts(transaction, services.run(name).id, Stream.HISTORY, steps or StepRange()))


def rows(offset: int, *texts: str) -> Chunk:
    return Chunk((Batch(Stream.HISTORY, offset, texts),))


def test_a_repeated_chunk_changes_nothing(services: Services, name: str) -> None:
    for _ in range(2):
        services.stream(name, rows(0, FIRST, SECOND))
    assert history(services, name) == [FIRST, SECOND]
    run = services.run(name)
    assert run.history_lines == 2
    assert json.loads(run.history_keys)["keys"]["loss"]["typeCounts"] == [{"type": "number", "count": 2}]


def test_a_late_first_chunk_does_not_drop_later_lines(services: Services, name: str) -> None:
    services.stream(name, rows(0, FIRST))
    services.stream(name, rows(1, SECOND))
    services.stream(name, rows(0, FIRST))
    assert history(services, name) == [FIRST, SECOND]


def test_history_is_found_by_its_steps(services: Services, name: str) -> None:
    services.stream(name, rows(0, FIRST, SECOND))
    assert history(services, name, StepRange(1, 2)) == [SECOND]


def test_a_run_that_came_back_gets_told_where_its_history_goes_on(services: Services, name: str) -> None:
    services.stream(name, rows(0, FIRST, SECOND))
    resumed = run_service.upsert(services.world, RunUpsert(name=name, project="p"))
    assert resumed.bucket.history_lines == 2
    assert not resumed.inserted


@pytest.mark.parametrize(
    ("exitcode", "state"), [(0, RunState.FINISHED), (1, RunState.FAILED), (255, RunState.KILLED)]
)
def test_an_exit_code_ends_a_run(services: Services, name: str, exitcode: int, state: RunState) -> None:
    services.stream(name, Chunk(exitcode=exitcode))
    services.stream(name, Chunk())
    assert services.run(name).state is state
    assert services.run(name).exitcode == exitcode


def test_a_resumed_run_is_running_and_has_no_exit_code(services: Services, name: str) -> None:
    services.stream(name, Chunk(exitcode=1))
    run_service.upsert(services.world, RunUpsert(name=name, project="p"))
    assert services.run(name).state is RunState.RUNNING
    assert services.run(name).exitcode is None


def test_a_stop_that_was_asked_for_is_answered_until_the_run_ends(services: Services, name: str) -> None:
    assert not services.stream(name, Chunk())
    run_service.request_stop(services.world, services.run(name).id)
    assert services.stream(name, Chunk())
    services.stream(name, Chunk(exitcode=1))
    assert services.run(name).state is RunState.KILLED


def test_an_unknown_run_is_not_found(services: Services) -> None:
    with pytest.raises(RefusedError) as refusal:
        services.stream("nobody", Chunk())
    assert refusal.value.status == 404


def test_a_line_that_is_no_json_leaves_nothing_behind(services: Services, name: str) -> None:
    with pytest.raises(RefusedError, match="a line is not valid JSON"):
        services.stream(name, rows(0, FIRST, "{"))
    assert history(services, name) == []


def test_a_real_request_is_read() -> None:
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
    assert read_chunk(body) == Chunk(
        batches=(Batch(Stream.CONSOLE, 3, ("hello",)),), summary='{"loss": 1}', exitcode=0
    )
    assert read_chunk({}) == Chunk()


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"files": []},
        {"files": {"output.log": []}},
        {"files": {"output.log": {"offset": -1, "content": []}}},
        {"files": {"output.log": {"offset": 10**12, "content": []}}},
        {"files": {"output.log": {"offset": True, "content": []}}},
        {"files": {"output.log": {"offset": 0, "content": "text"}}},
        {"files": {"output.log": {"offset": 0, "content": [1]}}},
    ],
)
def test_a_wrong_request_is_refused(body: Any) -> None:
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


def test_a_row_that_is_sent_again_under_a_later_number_is_there_once(services: Services, name: str) -> None:
    third = '{"_step": 2, "loss": 0.25}'
    services.stream(name, rows(0, FIRST, SECOND))
    services.stream(name, rows(2, FIRST, SECOND, third))
    assert history(services, name) == [FIRST, SECOND, third]
    assert services.run(name).history_lines == 5
    assert json.loads(services.run(name).history_keys)["keys"]["loss"]["typeCounts"][0]["count"] == 3


def test_rows_that_were_all_sent_before_change_nothing(services: Services, name: str) -> None:
    services.stream(name, rows(0, FIRST, SECOND))
    services.stream(name, rows(2, FIRST))
    assert history(services, name) == [FIRST, SECOND]
    assert services.run(name).history_lines == 2


def test_rows_without_a_step_are_all_kept(services: Services, name: str) -> None:
    text = '{"loss": 1}'
    services.stream(name, rows(0, text))
    services.stream(name, rows(1, text))
    assert history(services, name) == [text, text]

"""The holder that a key names, and what a worker's key may read and change."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.keys import (
    Holder,
    holder_of,
    is_master_key,
    new_master_key,
    node_key,
    node_worker_key,
    worker_key,
)
from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.versions import ArtifactFields
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.store import artifact_collections, artifacts, runs
from parallel_hpo.server.store.artifacts import COMMITTED
from tests.server.application import BEAT, REGISTER, Web
from tests.server.server_logic import MASTER_KEY, Services, grid

labels = st.text(f"{ascii_letters}{digits}_", min_size=1, max_size=64)
masters = st.binary(min_size=20, max_size=20).map(bytes.hex)


@given(masters, masters, labels, st.none() | labels, labels)
def test_a_worker_key_names_its_label_and_sweep_and_is_valid_for_no_other_master_or_sweep(
    master: str, other: str, label: str, sweep: str | None, another: str
) -> None:
    key = worker_key(master, label, sweep)
    assert holder_of(master, key) == Holder(label, sweep)
    assert (holder_of(other, key) is not None) is (other == master)
    mac = key.rpartition("-")[2]
    assert (holder_of(master, f"{label}.{another}-{mac}") is not None) is (another == sweep)
    assert (holder_of(master, f"{label}-{mac}") is not None) is (sweep is None)


@given(masters, labels, st.integers(1, 999_999), labels)
def test_the_server_accepts_keys_derived_by_a_node(master: str, sweep: str, epoch: int, label: str) -> None:
    node = node_key(master, sweep, epoch)
    holder = holder_of(master, node)
    assert holder == Holder(f"n{epoch}", sweep, epoch)
    assert holder.is_node
    assert holder_of(master, node_worker_key(node, label)) == Holder(label, sweep, epoch)


@given(masters, labels, labels)
def test_a_nodes_worker_key_is_only_for_its_own_epoch_and_sweep(master: str, sweep: str, label: str) -> None:
    mac = node_worker_key(node_key(master, sweep, 3), label).rpartition("-")[2]
    for name in (f"{label}.{sweep}.n4", f"{label}.{sweep}x.n3", f"{label}x.{sweep}.n3", f"{label}.{sweep}"):
        assert holder_of(master, f"{name}-{mac}") is None
    # A worker key of the master key can't pass for one that a node derived.
    assert holder_of(master, worker_key(master, label, sweep).replace("-", ".n3-")) is None


@pytest.mark.parametrize("key", ["0" * 40, worker_key("m", "w0", "s"), worker_key("m", "n3"), ""])
def test_deriving_a_worker_key_from_another_kind_of_key_raises(key: str) -> None:
    with pytest.raises(ValueError, match="not a node's key"):
        node_worker_key(key, "w0")


@given(masters, st.text())
def test_an_arbitrary_key_has_no_holder(master: str, key: str) -> None:
    assert holder_of(master, key) is None


def test_master_keys_are_40_characters_long_and_differ() -> None:
    first, second = new_master_key(), new_master_key()
    assert (len(first), first == second) == (40, False)
    assert is_master_key(first, first)
    assert not is_master_key(first, worker_key(first, "w0"))


@pytest.mark.parametrize("word", ["", "a-b", "a.b", "ä", "x" * 65, "a\n"])
def test_an_ambiguous_worker_label_or_sweep_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="worker label"):
        worker_key(new_master_key(), word)
    with pytest.raises(ValueError, match="sweep"):
        worker_key(new_master_key(), "w0", word)


READ_RUN = """query R($name: String!) { project(name: "p") { run(name: $name) { id } } }"""
LIST_RUNS = """query L($filters: JSONString) {
    project(name: "p") { runCount runs(filters: $filters) { edges { node { name } } } } }"""
READ_SWEEP = """query S($sweep: String!) {
    project(name: "p") { sweep(sweepName: $sweep) { id } totalSweeps } }"""
CANCEL = 'mutation C($id: ID!) { upsertSweep(input: {id: $id, state: "CANCELED"}) { sweep { state } } }'
CREATE = "mutation C($config: String!) { upsertSweep(input: {config: $config}) { sweep { name } } }"
STOP = "mutation S($id: ID!) { stopRun(input: {id: $id}) { success } }"
DELETE = "mutation D($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
EDIT = 'mutation E($id: String) { upsertBucket(input: {id: $id, notes: "n"}) { bucket { notes } } }'
TAKE = 'mutation T($name: String) { upsertBucket(input: {name: $name, modelName: "p"}) { bucket { id } } }'
JOIN = """mutation J($name: String, $sweep: String) {
    upsertBucket(input: {name: $name, sweep: $sweep, modelName: "p"}) { bucket { id } } }"""
REWIND = """mutation W($run: String!) { rewindRun(input: {
    projectName: "p", runName: $run, metricName: "_step", metricValue: 3}) { rewoundRun { id } } }"""
FORK = """mutation F($config: JSONString) {
    upsertBucket(input: {name: "fork", config: $config, modelName: "p"}) { bucket { id } } }"""
SEND = """mutation F($run: String!) { createRunFiles(input: {
    entityName: "local", projectName: "p", runName: $run, files: ["a"]}) { files { uploadUrl } } }"""
NAMED = """query N($name: String!) {
    project(name: "p") { artifact(name: $name) { id createdBy { __typename } } } }"""
DELETE_ARTIFACT = "mutation D($i: DeleteArtifactInput!) { deleteArtifact(input: $i) { artifact { id } } }"
RENAME = """mutation R($id: ID!) { updateArtifactSequence(input: {artifactSequenceID: $id, name: "mine"}) {
    artifactCollection { id } } }"""


class Neighbours:
    """Two sweeps of one project, each with an active run, and a client with a worker key of `own`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.own, self.other = services.sweep(grid(4)), services.sweep(grid(4))
        self.other_agent = services.agent(self.other, "w1")
        self.own_run = services.begun(self.own, "w0")
        self.others_run = services.issued(self.other_agent)
        services.start(self.other, self.others_run)
        self.web = Web(services, worker_key(MASTER_KEY, "w0", self.own))

    def id_of(self, run: str) -> str:
        return f"run:{self.services.run(run).id}"

    def end(self, run: str) -> int:
        """Stream a run's end, and return the answer's status."""
        body = {"complete": True, "exitcode": 0}
        return self.web.post(f"/files/local/p/{run}/file_stream", json=body).status_code


@pytest.fixture
def sweeps(services: Services) -> Iterator[Neighbours]:
    neighbours = Neighbours(services)
    with neighbours.web:
        yield neighbours


def test_a_worker_key_can_not_read_other_sweeps_or_their_runs(sweeps: Neighbours) -> None:
    assert sweeps.web.done(READ_RUN, name=sweeps.own_run)["project"]["run"] is not None
    assert sweeps.web.done(READ_RUN, name=sweeps.others_run)["project"]["run"] is None
    for filters, shown in (("{}", [sweeps.own_run]), (f'{{"sweep": "{sweeps.other}"}}', [])):
        listed = sweeps.web.done(LIST_RUNS, filters=filters)["project"]
        assert listed["runCount"] == 1
        assert [edge["node"]["name"] for edge in listed["runs"]["edges"]] == shown
    assert sweeps.web.done(READ_SWEEP, sweep=sweeps.own)["project"]["sweep"] is not None
    found = sweeps.web.done(READ_SWEEP, sweep=sweeps.other)["project"]
    assert (found["sweep"], found["totalSweeps"]) == (None, 1)


def test_a_worker_key_can_not_join_or_cancel_other_sweeps_or_create_one(sweeps: Neighbours) -> None:
    why = f"or is not in sweep {sweeps.own}, whose key this is"
    assert why in sweeps.web.refused(REGISTER, s=sweeps.other)
    assert why in sweeps.web.refused(BEAT, a=sweeps.other_agent)
    assert why in sweeps.web.refused(CANCEL, id=sweeps.other)
    config = "{method: random, parameters: {x: {value: 1}}}"
    assert "can't create sweeps" in sweeps.web.refused(CREATE, config=config)
    assert sweeps.web.done(REGISTER, s=sweeps.own)
    assert sweeps.web.done(CANCEL, id=sweeps.own)["upsertSweep"]["sweep"]["state"] == "CANCELED"


def test_a_worker_key_can_not_stop_change_or_delete_runs_of_other_sweeps(sweeps: Neighbours) -> None:
    name, run = sweeps.others_run, sweeps.id_of(sweeps.others_run)
    assert "belongs to another sweep" in sweeps.web.refused(TAKE, name=name)
    point = {"_wandb": {"value": {"branch_point": {"run_id": name, "step": 3}}}}
    for why in (
        sweeps.web.refused(STOP, id=run),
        sweeps.web.refused(EDIT, id=run),
        sweeps.web.refused(JOIN, name=name, sweep=sweeps.other),
        sweeps.web.refused(SEND, run=name),
        sweeps.web.refused(REWIND, run=name),
        sweeps.web.refused(FORK, config=json.dumps(point)),
    ):
        assert "doesn't exist" in why
    assert sweeps.end(name) == 404
    sweeps.services.end(name)
    assert "doesn't exist" in sweeps.web.refused(DELETE, id=run)
    assert sweeps.services.run(name).state is RunState.FINISHED


def test_a_worker_key_can_change_runs_of_its_own_sweep_and_runs_without_a_sweep(sweeps: Neighbours) -> None:
    sweeps.services.upsert("alone")
    for query in (EDIT, STOP):
        assert sweeps.web.done(query, id=sweeps.id_of(sweeps.own_run))
    for name in ("alone", "brand new"):
        assert sweeps.web.done(TAKE, name=name)
    assert sweeps.end(sweeps.own_run) == 200


def test_a_worker_key_can_read_but_not_change_an_artifact_of_another_sweep(sweeps: Neighbours) -> None:
    world = sweeps.services.world
    wishes = ArtifactFields("local", "p", "data", "dataset", "d", run=sweeps.others_run)
    created = versions.create(world, wishes)
    with world.database.write() as transaction:  # as a commit does once its files are uploaded
        artifacts.change(transaction, created.id, {"state": COMMITTED, "version": 0})
        artifact_collections.put_aliases(transaction, created.collection.id, created.id, ["latest"])
    found = sweeps.web.done(NAMED, name="data:latest")["project"]["artifact"]
    assert "another sweep" in sweeps.web.refused(DELETE_ARTIFACT, i={"artifactID": found["id"]})
    collection = base64.b64encode(f"ArtifactCollection:{created.collection.id}".encode()).decode()
    assert "another sweep" in sweeps.web.refused(RENAME, id=collection)


def test_a_sweeps_engine_learns_from_prior_runs_that_the_worker_key_can_not_read(sweeps: Neighbours) -> None:
    services, tried = sweeps.services, sweeps.others_run
    services.finish(sweeps.other, tried)
    later = services.sweep(grid(4), prior_runs='{"state": "finished"}')
    agents = [services.agent(later, f"w{number}") for number in range(3)]
    with Web(services, worker_key(MASTER_KEY, "w0", later)) as worker:
        for agent in agents:
            assert '"run"' in worker.ask(BEAT, a=agent)["data"]["agentHeartbeat"]["commands"]
    with services.world.database.read() as transaction:
        issued = [run.assigned for run in runs.of_sweep(transaction, later)]
    assert services.run(tried).assigned not in issued

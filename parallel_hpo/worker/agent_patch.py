"""The one file that leans on wandb's insides: no idle time between an agent's runs.

A stock function agent beats every 5 s, so it idles up to 5 s after every run, then
waits in steps of 0.2 s for the next wandb-core, and up to 10 s when it was told to
exit. Here a beat comes when the agent has become idle (5 s apart while a run is on,
as stock), and none once its lease is received in full and over: the agent marks a
run done before it sees that it should exit, and would draw one more. Where an inside
has changed, `install` says so and the agent keeps its stock pace.

Whether the run that is on was asked to stop by its server, though nobody in this process has heard of it.

A program, or a child of `main`, has a wandb client of its own, which hears of a stop by itself and
interrupts its process, mostly before the agent here is told to: its end then looks like a death or
a failure. The embedded server says which; of W&B's own that can't be asked.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import platform
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Final

from parallel_hpo.core.types import RunId, SweepPath

STOCK_BEAT_S: Final = 5.0
IDLE_BEATS_S: Final = (0.02, 0.1, 0.5, 1.0, 2.0)
"""Waits after beats that brought nothing (a paused sweep, a grid's last runs elsewhere); then 5 s."""
SETTLE_S: Final = 0.002
"""How often an agent is looked at between the end of a run and its being ready for the next."""
SETTLE_LIMIT_S: Final = 2.0
CORE_POLL_S: Final = 0.003
"""How often the client looks for its new wandb-core's port file; stock 0.2 s."""
ACTIVE: Final = ("QUEUED", "RUNNING")
FAILED_BEATS: Final = 5
"""So many failed beats in a row, within 4 s at least, are no passing trouble: for a server that is away
wandb-core waits itself. What `main` has broken in its process stays broken."""
BEATING: Final = ("wandb.apis.public.sweeps", "wandb.sdk.internal.internal_api")
"""Where the client beats, since 0.31 and before: it logs what goes wrong there, and goes on."""
LATE_IMPORTS: Final = (
    "wandb.agents.pyagent",
    "wandb.apis.public.sweeps",
    "wandb.sdk.launch.inputs.internal",
    "requests",
    "encodings.idna",
)
"""What the client imports only when an agent or a run begins: 6 MB and 0.2 s that forks can share."""


class HeartbeatTimer:
    """When the agent beats: put in the place of `Agent.HEARTBEAT_SLEEP_SECONDS`.

    The agent reads that attribute before each of its sleeps; `__get__` waits here
    until a beat is due and then answers with no sleep at all.
    """

    def __init__(self) -> None:
        self._run_over = threading.Event()
        self._error: BaseException | None = None
        """What the last beat brought instead of an answer; the agent keeps it to itself."""
        self._failures = 0
        """How many beats in a row of an agent without a run have failed."""
        self.on_idle_beat: Callable[[], None] = _do_nothing
        """Called after each beat that an agent without a run has had answered: it is alive, and asks."""
        self.on_lost: Callable[[BaseException], None] = _do_nothing_about
        """Called where an agent's beats have ended by an error: it would wait for its next run for ever."""

    def __get__(self, agent: Any, owner: type) -> float:
        if agent is None:
            return STOCK_BEAT_S
        try:
            return self._wait(agent)
        except AttributeError:
            return STOCK_BEAT_S  # an inside that `install` could not see has changed

    def note_failure(self, error: BaseException) -> None:
        """Note that a beat has failed."""
        self._error = error

    def run_is_over(self) -> None:
        """Say that the run has left `main` and is closed: the agent is about to be idle."""
        self._run_over.set()

    def _wait(self, agent: Any) -> float:
        if _is_active(agent):
            agent.idle_beats = 0
            self._run_over.wait(STOCK_BEAT_S)
            if not self._run_over.is_set():
                return 0.0
            self._settle(agent)
            self._run_over.clear()
        else:
            self._judge_idle_beat()
            time.sleep(self._idle_wait_s(agent))
        while _is_full(agent) and not agent._exit_flag:
            time.sleep(SETTLE_S)
        return 0.0

    def _judge_idle_beat(self) -> None:
        """Say that the agent asks, or that it will go on asking in vain."""
        error, self._error = self._error, None
        self._failures = 0 if error is None else self._failures + 1
        if error is None:
            self.on_idle_beat()
        elif self._failures == FAILED_BEATS:
            self.on_lost(error)

    def _settle(self, agent: Any) -> None:
        """Wait for the agent to have taken note of its run's end."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while _is_active(agent) and not agent._exit_flag and time.monotonic() < deadline:
            time.sleep(SETTLE_S)

    def _idle_wait_s(self, agent: Any) -> float:
        beats = getattr(agent, "idle_beats", 0)
        agent.idle_beats = beats + 1
        return IDLE_BEATS_S[beats] if beats < len(IDLE_BEATS_S) else STOCK_BEAT_S


def install(warn: Callable[[str], None]) -> HeartbeatTimer:
    """Set the pace of this process's agents; `warn` is told what can't be, and why.

    The returned Pace wants to hear of the end of each run.
    """
    pace = HeartbeatTimer()
    problem = _install_beat(pace)
    if problem:
        warn(f"this version of wandb has {problem}: its agents keep their stock pace of a run every 5 s")
    problem = _install_core_poll()
    if problem:
        warn(f"this version of wandb has {problem}: each run starts up to 0.2 s later")
    return pace


def import_early() -> None:
    """Import what the client would import in every worker; what this version has not got is left out.

    The name of the platform, which the client asks for too, takes a process; it is kept once it is known.
    """
    for name in LATE_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    platform.platform(aliased=True)


def _install_beat(pace: HeartbeatTimer) -> str:
    """Put `pace` on the agent's class; return what is not as it was known, or ''."""
    try:
        from wandb.agents.pyagent import Agent
    except ImportError:
        return "no wandb.agents.pyagent.Agent"
    if getattr(Agent, "HEARTBEAT_SLEEP_SECONDS", None) != STOCK_BEAT_S:
        return "no Agent.HEARTBEAT_SLEEP_SECONDS of 5"
    names = {*_names_in(Agent, "_heartbeat"), *_names_in(Agent, "_run_jobs_from_queue")}
    missing = {"HEARTBEAT_SLEEP_SECONDS", "_run_status", "_exit_flag", "_count", "_queue"} - names
    if missing or not hasattr(Agent, "_exit"):
        return f"an agent without {', '.join(sorted(missing)) or '_exit'}"
    inside: Any = Agent
    inside.HEARTBEAT_SLEEP_SECONDS = pace
    inside._exit = _waking(Agent._exit)
    inside._heartbeat = _telling(Agent._heartbeat, pace)
    for name in BEATING:
        logging.getLogger(name).addFilter(functools.partial(_note_failure, pace))
    return ""


def _names_in(owner: type, method: str) -> tuple[str, ...]:
    """Return the names that a method's code refers to; none where there is no such method."""
    code = getattr(getattr(owner, method, None), "__code__", None)
    return code.co_names if code is not None else ()


def _waking(leave: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an `Agent._exit` after which the agent's wait for a job ends at once."""

    def exit_and_wake(agent: Any) -> None:
        leave(agent)
        agent._queue.put(None)  # it looks at its exit flag before it looks at the job

    return exit_and_wake


def _telling(beats: Callable[[Any], None], pace: HeartbeatTimer) -> Callable[[Any], None]:
    """Return an `Agent._heartbeat` that tells of its end by an error, which no one else would notice."""

    def beat_and_tell(agent: Any) -> None:
        try:
            beats(agent)
        except BaseException as error:
            pace.on_lost(error)
            raise

    return beat_and_tell


def _note_failure(pace: HeartbeatTimer, record: logging.LogRecord) -> bool:
    """Note an exception that the client only logs; let the record pass."""
    if record.exc_info and record.exc_info[1] is not None:
        pace.note_failure(record.exc_info[1])
    return True


def _do_nothing() -> None:
    """There is nobody to be told."""


def _do_nothing_about(error: BaseException) -> None:
    """There is nobody to be told."""


def _install_core_poll() -> str:
    """Shorten the wait for wandb-core's port file; return what is not as it was known, or ''."""
    try:
        inside: Any = importlib.import_module("wandb.sdk.lib.service.service_port_file")
    except ImportError:
        return "no wandb.sdk.lib.service.service_port_file"
    if not isinstance(getattr(inside, "_SLEEP", None), types.BuiltinFunctionType):
        return "no service_port_file._SLEEP"
    inside._SLEEP = _sleep_briefly
    return ""


def _sleep_briefly(seconds: float) -> None:
    time.sleep(min(seconds, CORE_POLL_S))


def _is_active(agent: Any) -> bool:
    return any(status in ACTIVE for status in list(agent._run_status.values()))


def _is_full(agent: Any) -> bool:
    """Whether the agent has received all runs that it was asked for, and is through with them."""
    return bool(agent._count) and len(agent._run_status) >= agent._count and not _is_active(agent)


ASK_LIMIT_S: Final = 10.0
_QUERY: Final = """query RunStop($entity: String, $project: String, $run: String!) {
  project(entityName: $entity, name: $project) { run(name: $run) { shouldStop } }
}"""


def was_asked_to_stop(path: SweepPath, run_id: RunId) -> bool:
    """Ask the embedded server; False also where it does not answer, which is said in the log."""
    import requests  # wandb's own, loaded with it

    names = {"entity": path.entity, "project": path.project, "run": run_id}
    try:
        answer = requests.post(
            f"{os.environ['WANDB_BASE_URL']}/graphql",
            json={"query": _QUERY, "variables": names},
            auth=("api", os.environ["WANDB_API_KEY"]),
            timeout=ASK_LIMIT_S,
        ).json()
        return bool(answer["data"]["project"]["run"]["shouldStop"])
    except (KeyError, TypeError, ValueError, requests.RequestException) as error:
        print(f"parallel_hpo: whether the run was asked to stop is not known: {error!r}", file=sys.stderr)
        return False

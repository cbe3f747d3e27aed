"""Changes wandb's function agent so that it does not idle between runs. Only this file uses the client's
internals.

A stock agent sends a heartbeat every 5 s, so it idles up to 5 s after every run, then waits in steps of 0.2
s for the next wandb-core, and up to 10 s after an order to exit. Here it sends one as soon as it is idle
(every 5 s during a run, as stock). It sends none once its lease is complete: the agent marks a run done
before it sees that it should exit, and would draw one more. If an internal has changed, `install` warns and
the agent keeps its stock pace.

`was_asked_to_stop` asks the embedded server whether it stopped the active run (W&B's can't be asked). A
program or a child of `main` has a wandb client of its own, which receives the stop and interrupts its
process, mostly before the agent here learns of it: the end then looks like a death or a failure.
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
"""Waits after heartbeats without a run (a paused sweep, a grid's last runs elsewhere), in seconds; then 5
s."""
SETTLE_S: Final = 0.002
"""Poll interval between the end of a run and the agent's readiness for the next, in seconds."""
SETTLE_LIMIT_S: Final = 2.0
CORE_POLL_S: Final = 0.003
"""The client's poll interval for its new wandb-core's port file, in seconds; stock 0.2 s."""
ACTIVE: Final = ("QUEUED", "RUNNING")
FAILED_BEATS: Final = 5
"""Failed heartbeats in a row (at least 4 s) after which the agent counts as lost. An unreachable server is
no cause, as wandb-core waits for it; what `main` has broken in its process stays broken."""
BEATING: Final = ("wandb.apis.public.sweeps", "wandb.sdk.internal.internal_api")
"""Loggers of the client's heartbeats, since 0.31 and before: it logs their errors and goes on."""
LATE_IMPORTS: Final = (
    "wandb.agents.pyagent",
    "wandb.apis.public.sweeps",
    "wandb.sdk.launch.inputs.internal",
    "requests",
    "encodings.idna",
)
"""Modules that the client imports when an agent or a run begins: 6 MB and 0.2 s that forks can share."""


class HeartbeatTimer:
    """Times the agent's heartbeats, in place of `Agent.HEARTBEAT_SLEEP_SECONDS`.

    The agent reads that attribute before each sleep. `__get__` waits until a heartbeat is due, and returns
    no sleep.
    """

    def __init__(self) -> None:
        self._run_over = threading.Event()
        self._error: BaseException | None = None
        """Error of the last heartbeat, which the agent only logs."""
        self._failures = 0
        """Failed heartbeats in a row of an idle agent."""
        self.on_idle_beat: Callable[[], None] = _do_nothing
        """Called after each answered heartbeat of an idle agent: it is alive."""
        self.on_lost: Callable[[BaseException], None] = _do_nothing_about
        """Called if an error has ended an agent's heartbeats: it would wait for its next run forever."""

    def __get__(self, agent: Any, owner: type) -> float:
        if agent is None:
            return STOCK_BEAT_S
        try:
            return self._wait(agent)
        except AttributeError:
            return STOCK_BEAT_S  # an internal has changed that `install` can't check

    def note_failure(self, error: BaseException) -> None:
        """Note that a heartbeat has failed."""
        self._error = error

    def run_is_over(self) -> None:
        """Note that the run has been closed: the agent is about to be idle."""
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
        """Report that the agent is alive, or lost."""
        error, self._error = self._error, None
        self._failures = 0 if error is None else self._failures + 1
        if error is None:
            self.on_idle_beat()
        elif self._failures == FAILED_BEATS:
            self.on_lost(error)

    def _settle(self, agent: Any) -> None:
        """Wait until the agent has noted its run's end."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while _is_active(agent) and not agent._exit_flag and time.monotonic() < deadline:
            time.sleep(SETTLE_S)

    def _idle_wait_s(self, agent: Any) -> float:
        beats = getattr(agent, "idle_beats", 0)
        agent.idle_beats = beats + 1
        return IDLE_BEATS_S[beats] if beats < len(IDLE_BEATS_S) else STOCK_BEAT_S


def install(warn: Callable[[str], None]) -> HeartbeatTimer:
    """Patch this process's agents; call `warn` if wandb's internals have changed.

    Call `run_is_over` of the returned timer at the end of each run.
    """
    pace = HeartbeatTimer()
    if problem := _install_beat(pace):
        warn(f"this version of wandb has {problem}: its agents keep their stock pace of a run every 5 s")
    if problem := _install_core_poll():
        warn(f"this version of wandb has {problem}: each run starts up to 0.2 s later")
    return pace


def import_early() -> None:
    """Import what the client would import in every worker, except modules that this version lacks.

    Finding the platform's name, which the client needs, takes a process; Python caches it.
    """
    for name in LATE_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    platform.platform(aliased=True)


def _install_beat(pace: HeartbeatTimer) -> str | None:
    """Patch the agent's class with `pace`; return which internal has changed, or None."""
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
    return None


def _names_in(owner: type, method: str) -> tuple[str, ...]:
    """Return the names in a method's code; none without the method."""
    code = getattr(getattr(owner, method, None), "__code__", None)
    return code.co_names if code is not None else ()


def _waking(leave: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an `Agent._exit` that ends the agent's wait for a job at once."""

    def exit_and_wake(agent: Any) -> None:
        leave(agent)
        agent._queue.put(None)  # it checks its exit flag before the job

    return exit_and_wake


def _telling(beats: Callable[[Any], None], pace: HeartbeatTimer) -> Callable[[Any], None]:
    """Return an `Agent._heartbeat` that reports its end by an error, which would go unnoticed."""

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
    """Ignore the event: nothing is registered."""


def _do_nothing_about(error: BaseException) -> None:
    """Ignore the error: nothing is registered."""


def _install_core_poll() -> str | None:
    """Shorten the wait for wandb-core's port file; return which internal has changed, or None."""
    try:
        inside: Any = importlib.import_module("wandb.sdk.lib.service.service_port_file")
    except ImportError:
        return "no wandb.sdk.lib.service.service_port_file"
    if not isinstance(getattr(inside, "_SLEEP", None), types.BuiltinFunctionType):
        return "no service_port_file._SLEEP"
    inside._SLEEP = _sleep_briefly
    return None


def _sleep_briefly(seconds: float) -> None:
    time.sleep(min(seconds, CORE_POLL_S))


def _is_active(agent: Any) -> bool:
    return any(status in ACTIVE for status in list(agent._run_status.values()))


def _is_full(agent: Any) -> bool:
    """Return whether the agent has received and completed all runs of its count."""
    return bool(agent._count) and len(agent._run_status) >= agent._count and not _is_active(agent)


ASK_LIMIT_S: Final = 10.0
_QUERY: Final = """query RunStop($entity: String, $project: String, $run: String!) {
  project(entityName: $entity, name: $project) { run(name: $run) { shouldStop } }
}"""


def was_asked_to_stop(path: SweepPath, run_id: RunId) -> bool:
    """Ask the embedded server whether it stopped the run; False, with a log line, if it does not answer."""
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
        print(f"parallel_hpo: can't ask the server whether it stopped the run: {error!r}", file=sys.stderr)
        return False

"""Tells of a sweep's end whom the user wants told: `on_end`, `notify`. What fails here changes nothing."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotInTime

from parallel_hpo.config.hooks import words_of
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.commands import LIMIT_S, Commands
from parallel_hpo.supervisor.control.patience import Patience, StoppedError, in_thread
from parallel_hpo.supervisor.notifying import send
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting


def tell_of_end(result: SweepResult, setting: Setting, commands: Commands) -> None:
    """Tell them, one after the other, unless another stop comes meanwhile."""
    section = setting.section
    if section.on_end is None and not section.notify:
        return
    setting.control.take()  # what ended the sweep leaves its end's command the time that it has
    try:
        patience = Patience(setting.control, grace_s=0.0)
        if section.on_end is not None:
            words = words_of(section.on_end)
            _say(setting, "on_end", patience.call(lambda: commands.run(words, result.to_json())))
        if section.notify:
            _say(setting, "notify", patience.call(lambda: _send_in_time(section.notify, result)))
    except StoppedError:
        commands.give_up()
        _say(setting, "on_end and notify", "cut short by another stop")


def _send_in_time(addresses: list[str], result: SweepResult) -> str:
    try:
        return in_thread(lambda: send(addresses, result)).result(LIMIT_S)
    except NotInTime:
        return f"no answer within {LIMIT_S:g} s"


def _say(setting: Setting, what: str, why: str) -> None:
    if why:
        setting.observer(Message(f"{what}: {why}", warning=True))

"""Tells of a sweep's end whom the user wants told: `on_end`, and by `notify`, addresses as Apprise has them.

Those are mail, Slack, Telegram, … What fails here changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

from parallel_hpo.config.hooks import words_of
from parallel_hpo.errors import ConfigError, MissingExtraError
from parallel_hpo.extras import library
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.commands import LIMIT_S, Commands
from parallel_hpo.supervisor.control.patience import Patience, StoppedError, in_thread
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


def check_addresses(addresses: Sequence[str]) -> None:
    """Raise ConfigError where Apprise is missing, or does not know an address, whose secrets stay unsaid."""
    if addresses:
        apprise = _apprise()
        for number, address in enumerate(addresses, 1):
            if not apprise.Apprise().add(address):
                kind = address.partition("://")[0][:20] if "://" in address else "no scheme"
                raise ConfigError(
                    f"hpo.notify: address {number} ({kind}) is none that Apprise knows;"
                    " allowed: what its list of services says, such as mailto://user:password@example.com"
                )


def send(addresses: Sequence[str], result: SweepResult) -> str:
    """Tell all addresses of a sweep's end; return why some could not be told, '' where all were."""
    untold = [address for address in addresses if not _told(address, result)]
    kinds = ", ".join(address.partition("://")[0] for address in untold)
    return f"{len(untold)} of {len(addresses)} addresses did not take it ({kinds})" if untold else ""


def _told(address: str, result: SweepResult) -> bool:
    service = _apprise().Apprise()
    try:
        return bool(service.add(address) and service.notify(title=title_of(result), body=body_of(result)))
    except Exception:  # noqa: BLE001 - a hundred services' plugins raise what they like
        return False


def title_of(result: SweepResult) -> str:
    """Return how a sweep ended, in a line."""
    bad = result.failed + result.crashed
    runs = f"{result.finished} of {result.attempted} runs finished" + (f", {bad} failed" if bad else "")
    return f"sweep {result.sweep_id}: {runs}"


def body_of(result: SweepResult) -> str:
    """Return what a person wants to know of a sweep that has ended."""
    best = "no run finished with a value to compare"
    if result.best is not None:
        best = f"best: run {result.best.run_id} with {result.best.value:g}: {result.best.parameters}"
    return "\n".join([f"ended: {result.stop_reason} (exit code {result.exit_code})", best, result.sweep_url])


def _apprise() -> Any:
    try:
        return library("apprise", extra="notify")  # takes half a second
    except MissingExtraError as error:
        raise ConfigError(f"hpo.notify: {error}") from None

"""Sets the stage of a sweep on many machines: engine, server, sweep, ledger; and clears it away.

    engine ─▶ its machines reach us by … ─▶ server there ─▶ `main` tried in a child ─▶ sweep ─▶ PooledSweep

Whatever happens, nothing that was started here lives when `stack` is closed.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from parallel_hpo import keys
from parallel_hpo.backend.choose import choose_backend
from parallel_hpo.backend.credentials import find_credentials
from parallel_hpo.backend.local import LocalBackend
from parallel_hpo.backend.ours import ServerOfOurs
from parallel_hpo.backend.variables import LOOPBACK
from parallel_hpo.chronicle import LEDGER
from parallel_hpo.config.tables import Machines
from parallel_hpo.errors import BackendError
from parallel_hpo.head.crew import Crew, CrewReport
from parallel_hpo.head.line import Answer, HeadDoor
from parallel_hpo.head.offer import PoolPlace
from parallel_hpo.head.performing import CREW_STOPS_IN_S, PooledSweep, Theatre
from parallel_hpo.machines.base import ClusterEngine
from parallel_hpo.machines.names import address_towards
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.control.patience import StoppedError
from parallel_hpo.supervisor.devices.equipment import Equipment
from parallel_hpo.supervisor.devices.library import no_library, opened
from parallel_hpo.supervisor.devices.placing import Placement
from parallel_hpo.supervisor.launch import OpenStage, Stage
from parallel_hpo.supervisor.processes.child_calls import ChildCalls
from parallel_hpo.supervisor.processes.reaper import MARK
from parallel_hpo.supervisor.records.mirror import MirrorLedger
from parallel_hpo.supervisor.records.resuming import facts_of, find_folder
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import sweep_id_of

MakeDoor = Callable[[str, str, str], HeadDoor]
"""Returns the door of a pool, given its server's address, a key, and the sweep's id."""
ELSEWHERE: Final = "192.0.2.1"
"""An address that is nobody's (RFC 5737), by the default route."""
ADDRESS_LIMIT_S: Final = 10.0
"""An engine that does not tell an address in this time is not waited for."""


class HeadStage(Stage):
    """One call of `lead`; what it starts, `stack` ends."""

    def __init__(
        self,
        setting: Setting,
        environment: Mapping[str, str] | None,
        stack: ExitStack,
        *,
        machines: Machines,
        make_engine: Callable[[], ClusterEngine] | None,
        make_door: MakeDoor,
    ) -> None:
        """`make_engine` None: machines come by themselves."""
        super().__init__(setting, environment, stack)
        self._machines = machines
        self._make_engine = make_engine
        self._make_door = make_door
        self._reports: queue.SimpleQueue[CrewReport | Answer] = queue.SimpleQueue()

    def perform(self, resume: str | None) -> SweepResult:
        """Perform the sweep; what is left of an earlier count of it, where it is to be resumed."""
        try:
            crew = self._open_crew()
            self.host = self._find_host(crew)
            ledger = self._find_mirror(resume) if resume is not None else None
            there = self.open(facts_of(ledger, resume, many=True))
            self.patience.sweep_is_open()
            if ledger is None:
                folder = self.setting.folder_of(there.sweep.path.sweep_id)
                ledger = self.stack.enter_context(MirrorLedger(folder / LEDGER))
            return PooledSweep(self._theatre(there, crew, ledger)).perform()
        except StoppedError:  # before there was a pool from which machines could draw
            return self._nothing_done()

    # --- what there is ---------------------------------------------------------------------

    def _find_mirror(self, resume: str) -> MirrorLedger | None:
        """Open the ledger of a sweep that is resumed; None: another machine has it, and a server knows it."""
        directory = self.section.directory
        is_here = (directory / sweep_id_of(resume) / LEDGER).is_file()
        if not is_here and choose_backend(self.section.backend, self.environment).name != "local":
            return None
        return self.stack.enter_context(MirrorLedger(find_folder(directory, resume) / LEDGER))

    def _equip(self) -> Equipment:
        return Equipment(Placement(1), self.stack.enter_context(opened(no_library)))

    # --- what is started -------------------------------------------------------------------

    def _open_crew(self) -> Crew | None:
        if self._make_engine is None:
            return None
        most = None if self._machines.count == "auto" else self._machines.count
        crew = Crew(self._make_engine, self._post, clock=self.setting.clock, most=most)
        opening = crew.open()
        self.stack.callback(crew.stop_within, CREW_STOPS_IN_S)
        self.patience.call(opening.result)
        return crew

    def _post(self, report: CrewReport) -> None:
        self._reports.put(report)
        self.setting.control.ring()

    def _find_host(self, crew: Crew | None) -> str:
        """Return the address by which machines reach this one, as the engine knows it, or by the route."""
        if crew is not None:
            with suppress(BackendError, NotInTime):
                known = self.patience.call(partial(crew.own_address().result, ADDRESS_LIMIT_S))
                if known:
                    return known
        return host_by_route()

    def _theatre(self, there: OpenStage, crew: Crew | None, ledger: MirrorLedger) -> Theatre:
        place = self._place(there)
        return Theatre(
            setting=self.setting,
            machines=self._machines,
            sweep=there.sweep,
            backend=there.backend,
            place=place,
            door=self._make_door(place.url, place.key, there.sweep.path.sweep_id),
            ledger=ledger,
            crew=crew,
            which=crew.which if crew else "the machines that join",
            reports=self._reports,
            patience=self.patience,
            make_commands=lambda: Commands(self.users_environment, self.folder),
            surroundings=there.surroundings,
        )

    def _place(self, there: OpenStage) -> PoolPlace:
        """Return where the pool is: with the sweep, or on a server of its own where that is W&B's."""
        backend = there.backend
        is_apart = not isinstance(backend, ServerOfOurs)
        server = backend if isinstance(backend, ServerOfOurs) else self._open_pool_server(there)
        if isinstance(server, LocalBackend) and self.host != LOOPBACK:
            self.setting.observer(Message(f"the sweep server listens on {self.host}, for the machines"))
        found = server.client_environment(keys.SUPERVISOR)
        login = self._login() if is_apart else {}
        return PoolPlace(found["WANDB_BASE_URL"], found["WANDB_API_KEY"], is_apart, login)

    def _open_pool_server(self, there: OpenStage) -> LocalBackend:
        environment = self.environment | {MARK: f"{self.setting.mark}_server"}
        server = LocalBackend(self.section.directory, environment, host=self.host)
        server.open(self._on_backend_lost, self._on_backend_trouble)
        self.stack.callback(server.close)
        self.patience.call(server.wait_until_up)
        server.use_for(there.sweep.path, ChildCalls(there.children, there.surroundings).run)
        return server

    def _login(self) -> dict[str, str]:
        """Return by which variables nodes are logged in to W&B as this process is."""
        known = find_credentials(self.users_environment)
        key = {"WANDB_API_KEY": known.key} if known.key else {}
        return {"WANDB_BASE_URL": known.base_url, **key}


def host_by_route() -> str:
    """Return the address by which machines reach this one, as far as it is known without asking them."""
    return address_towards(ELSEWHERE) or LOOPBACK

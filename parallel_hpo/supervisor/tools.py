"""What the loop acts with, and how it holds a living worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from parallel_hpo.notices import Observer
from parallel_hpo.protocol.spec import WorkerSpec
from parallel_hpo.supervisor.control.mailbox import Mailbox
from parallel_hpo.supervisor.control.patience import Patience
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.decisions.grants import needs
from parallel_hpo.supervisor.decisions.view import SlotView, SweepView
from parallel_hpo.supervisor.devices.meter import Meter
from parallel_hpo.supervisor.devices.watch import DeviceWatch
from parallel_hpo.supervisor.membership.membership import Membership
from parallel_hpo.supervisor.on_failure import Aftermath
from parallel_hpo.supervisor.processes.child import Child
from parallel_hpo.supervisor.processes.child_pool import ChildPool
from parallel_hpo.supervisor.processes.memory import MemoryWatch
from parallel_hpo.supervisor.processes.output import OutputPump
from parallel_hpo.supervisor.records.recorder import Recorder
from parallel_hpo.supervisor.server_calls import ServerCalls
from parallel_hpo.supervisor.siblings import Siblings
from parallel_hpo.supervisor.standstill import Standstill
from parallel_hpo.words import Slot


@dataclass(frozen=True, slots=True)
class Tools:
    """What the loop acts with; `clock` gives monotonic seconds, `jitter` numbers in [0, 1)."""

    children: ChildPool
    recorder: Recorder
    server_calls: ServerCalls
    pump: OutputPump
    memory: MemoryWatch
    control: Control
    mailbox: Mailbox
    patience: Patience
    standstill: Standstill
    siblings: Siblings
    aftermath: Aftermath
    observer: Observer
    make_spec: Callable[[SlotView, str], WorkerSpec]
    """The spec of a slot's next worker, given its label."""
    devices: DeviceWatch
    meter: Meter
    mark: str
    clock: Callable[[], float]
    jitter: Callable[[], float]
    membership: Membership | None = None
    """This machine's part in the sweep's pool; None: it has the sweep for itself."""

    def tell_pool(self, view: SweepView) -> None:
        """Say what could be used here by now."""
        if self.membership is not None:
            self.membership.publish(needs(view, self.clock()))


@dataclass(slots=True)
class LivingWorker:
    """A slot's living worker, as the loop handles it."""

    slot: Slot
    child: Child
    label: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    heard_out: bool = field(default=False)
    """Its pipe is at its end; its death is yet to be reported."""

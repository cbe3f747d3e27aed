"""What the loop acts with, and how it holds a living worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from parallel_hpo.supervisor.child import Child
from parallel_hpo.supervisor.children import Nursery
from parallel_hpo.supervisor.courier import Courier
from parallel_hpo.supervisor.devices.watch import DeviceWatch
from parallel_hpo.supervisor.mailbox import Mailbox
from parallel_hpo.supervisor.output import OutputPump
from parallel_hpo.supervisor.patience import Patience
from parallel_hpo.supervisor.recorder import Recorder
from parallel_hpo.supervisor.siblings import Siblings
from parallel_hpo.supervisor.signals import Control
from parallel_hpo.supervisor.standstill import Standstill
from parallel_hpo.supervisor.view import SlotView
from parallel_hpo.words import Observer, Slot
from parallel_hpo.worker.spec import WorkerSpec


@dataclass(frozen=True, slots=True)
class Tools:
    """What the loop acts with; `clock` gives monotonic seconds, `jitter` numbers in [0, 1)."""

    nursery: Nursery
    recorder: Recorder
    courier: Courier
    pump: OutputPump
    control: Control
    mailbox: Mailbox
    patience: Patience
    standstill: Standstill
    siblings: Siblings
    observer: Observer
    make_spec: Callable[[SlotView, str], WorkerSpec]
    """The spec of a slot's next worker, given its label."""
    devices: DeviceWatch
    mark: str
    clock: Callable[[], float]
    jitter: Callable[[], float]


@dataclass(slots=True)
class Worker:
    """A slot's living worker, as the loop handles it."""

    slot: Slot
    child: Child
    label: str
    heard_out: bool = field(default=False)
    """Its pipe is at its end; its death is yet to be reported."""

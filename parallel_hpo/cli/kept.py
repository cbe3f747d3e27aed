"""What `parallel-hpo clean` may remove: sweeps with folders, sweeps that only a server has, and projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.cli.output import warn
from parallel_hpo.client.calls import OVER
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.records.folders import CAN_BE_RESUMED, CleanCandidate, find_sweep, known_sweeps, look_at
from parallel_hpo.server import removal
from parallel_hpo.server.context import DEFAULT_ENTITY, AppContext
from parallel_hpo.server.store.holdings import ProjectRest, StoredSweep


@dataclass(frozen=True, slots=True)
class ProjectPath:
    """A project, as its user names it."""

    entity: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ProjectPath:
        """Read [ENTITY/]NAME."""
        entity, _, name = text.rpartition("/")
        return cls(entity or DEFAULT_ENTITY, name)

    def __str__(self) -> str:
        return f"{self.entity}/{self.name}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """Where sweeps are kept: in folders, in a server's database, or in both."""

    directory: Path | None
    """None: only the database is asked."""
    world: AppContext | None
    now: float

    def sweeps(self) -> Iterator[CleanCandidate]:
        """Yield the sweeps that may go without being named: those with a folder, or else the database's."""
        if self.directory is not None:
            for known in known_sweeps(self.directory, unreadable=warn):
                yield look_at(known, now=self.now)
        else:
            yield from map(self._of_server, self._kept())

    def named(self, names: Sequence[str]) -> Iterator[CleanCandidate]:
        """Yield the sweeps of these ids or paths; UsageError for one that is nowhere."""
        kept = {each.id: each for each in self._kept()}
        for name in names:
            sweep_id = sweep_id_of(name)
            has_folder = self.directory is not None and (self.directory / sweep_id).is_dir()
            if sweep_id in kept and not has_folder:
                yield self._of_server(kept[sweep_id])
            elif self.directory is None:
                raise UsageError(f"there is no sweep {name}; there: {', '.join(kept) or 'none'}")
            else:
                yield look_at(find_sweep(self.directory, name), now=self.now)

    def of_project(self, project: ProjectPath) -> list[str]:
        """Return the ids of a project's sweeps."""
        return [
            each.id for each in self._kept() if (each.entity, each.project) == (project.entity, project.name)
        ]

    def rest(self, project: ProjectPath) -> ProjectRest:
        """Return what a project has besides its sweeps; UsageError where there is no such project."""
        found = (
            None if self.world is None else removal.besides_sweeps(self.world, project.entity, project.name)
        )
        if found is None:
            raise UsageError(f"there is no project {project}")
        return found

    def only_on_server(self, shown: Sequence[CleanCandidate]) -> int:
        """Count the sweeps of the database that are not among these."""
        return len({each.id for each in self._kept()} - {each.sweep_id for each in shown})

    def besides(self, rest: ProjectRest) -> CleanCandidate:
        """Return what would be lost with a project besides its sweeps."""
        return CleanCandidate(
            sweep_id="",
            folder=None,
            age_s=max(0.0, self.now - rest.heard_at),
            size_mb=0.0,
            running=rest.is_on and not self._is_silent(rest.heard_at),
            regrets=(f"with {rest.runs} runs of no sweep",) if rest.runs else (),
        )

    def _is_silent(self, heard_at: float) -> bool:
        """Whether nothing was heard for so long that nobody is at work."""
        return self.world is None or self.now - heard_at > self.world.patience.silent_s

    def _kept(self) -> list[StoredSweep]:
        return [] if self.world is None else removal.kept_sweeps(self.world)

    def _of_server(self, kept: StoredSweep) -> CleanCandidate:
        is_over = kept.state in OVER
        return CleanCandidate(
            sweep_id=kept.id,
            folder=None,
            age_s=max(0.0, self.now - kept.heard_at),
            size_mb=0.0,
            running=not is_over and not self._is_silent(kept.heard_at),
            regrets=() if is_over else (CAN_BE_RESUMED,),
        )

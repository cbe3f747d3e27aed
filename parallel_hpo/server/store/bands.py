"""The bands of early stopping: which loss each run of a sweep had when it reached one."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from parallel_hpo.server.store.tables import band_losses


def put(connection: Connection, sweep_id: str, band: int, run_id: int, loss: float) -> None:
    """Note a run's loss at a band, in the place of an earlier one."""
    here = (band_losses.c.sweep_id == sweep_id, band_losses.c.band == band, band_losses.c.run_id == run_id)
    connection.execute(delete(band_losses).where(*here))
    values = {"sweep_id": sweep_id, "band": band, "run_id": run_id, "loss": loss}
    connection.execute(insert(band_losses).values(values))


def forget(connection: Connection, run_id: int) -> None:
    """Forget what a run had at bands."""
    connection.execute(delete(band_losses).where(band_losses.c.run_id == run_id))


def losses(connection: Connection, sweep_id: str, band: int) -> dict[int, float]:
    """Return the losses at a band by run."""
    query = select(band_losses.c.run_id, band_losses.c.loss).where(
        band_losses.c.sweep_id == sweep_id, band_losses.c.band == band
    )
    return {row[0]: row[1] for row in connection.execute(query)}

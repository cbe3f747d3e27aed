"""The one exception by which a request is refused: its message is for the user, its status for the client.

What the status does to wandb's client: 200 with `errors` is shown at once; 4xx is
not tried again and ends a run's data stream; 503 is tried again, for days.
"""

from __future__ import annotations


class RefusedError(Exception):
    """A request that is not served; `status` is the HTTP status of the answer."""

    def __init__(self, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.status = status

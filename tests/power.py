"""A disk that can be filled and whose power can be cut: a file system in a file.

Only synced data survives a power cut.

ext4 can be told to stop as if the machine had lost its power: nothing more reaches it, its
journal is not written out, and what the page cache holds is gone. Needs root, and a kernel
that lets it mount a file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

SIZE_MB: Final = 256
_SHUT_DOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_THE_JOURNAL: Final = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH


class Disk:
    """A mounted image. Processes with open files on it must be killed before `restore`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder
        """Where it is mounted."""
        self._filling = folder / "filling"

    @classmethod
    def make(cls, where: Path, *, size_mb: int = SIZE_MB) -> Disk:
        """Create an empty disk in the folder `where`, and mount it there."""
        disk = cls(where / "image", where / "disk")
        disk.folder.mkdir()
        with disk._image.open("wb") as image:
            image.truncate(size_mb * 2**20)
        _run("mkfs.ext4", "-q", str(disk._image))
        disk._mount()
        return disk

    def cut_power(self) -> None:
        """Let nothing more reach the disk; further writes fail."""
        opened = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, _SHUT_DOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
        finally:
            os.close(opened)

    def restore(self) -> None:
        """Mount it again, with what a power cut left on it."""
        self.close()
        self._mount()

    def fill(self) -> None:
        """Use up all free space."""
        with self._filling.open("ab") as file, suppress(OSError):
            for share in (1.0, 0.9, 0.5, 0.0):  # a file can't have all the space that is reported as free
                free = os.statvfs(self.folder)
                size = max(1, int(free.f_bfree * share)) * free.f_bsize
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                file.seek(0, os.SEEK_END)
            while True:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 4096)

    def free(self) -> None:
        """Give back what `fill` took."""
        self._filling.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        _run("umount", str(self.folder))

    def abandon(self) -> None:
        """Detach it at once; it is unmounted when the last file on it is closed."""
        _run("umount", "--lazy", str(self.folder))

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.folder))


@contextmanager
def disk(where: Path) -> Iterator[Disk]:
    """Create a disk in the folder `where`, and detach it at the end."""
    made = Disk.make(where)
    try:
        yield made
    finally:
        made.abandon()


@cache
def why_no_disk() -> str | None:
    """Return why no such disk can be mounted here, or None if one can."""
    if os.geteuid() != 0:
        return "only root may mount a disk whose power is cut"
    try:
        with TemporaryDirectory() as folder, disk(Path(folder)) as tried:
            (tried.folder / "file").write_text("never synced")
            tried.cut_power()
            tried.restore()
            return "this kernel's ext4 keeps what was not synced" if any(tried.folder.glob("file")) else None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no disk can be mounted here: {error}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)

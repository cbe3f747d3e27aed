"""CUDA by the driver's own library: lists devices, and allocates and uses memory on one."""

from __future__ import annotations

import ctypes
from typing import Any, Final
from uuid import UUID

MB: Final = 2**20
LIBRARY: Final = "libcuda.so.1"
OUT_OF_MEMORY: Final = 2


class CudaError(RuntimeError):
    """A call of the driver failed; the message is worded as in frameworks."""


class Cuda:
    """The devices visible to this process, and the primary context of the first one."""

    def __init__(self) -> None:
        """Initialise the driver; CudaError if it is missing or no device is visible."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f"CUDA error: {error}") from None
        self._call("cuInit", 0)

    def uuids(self) -> list[str]:
        """Return the UUIDs of the visible devices or MIG instances, without the prefix `GPU-` or `MIG-`."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return [self._uuid(number) for number in range(count.value)]

    def open(self) -> None:
        """Make the first device's context this thread's."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def memory_mb(self) -> tuple[float, float]:
        """Return the device's free and total memory."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value / MB, total.value / MB

    def hold(self, mb: float) -> int:
        """Allocate memory, write to all of it, and return its address; it is held until the process ends.

        Raises:
            CudaError: there is not enough memory.
        """
        address, size = ctypes.c_uint64(), int(mb * MB)
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self.write(address.value, mb)
        return address.value

    def write(self, address: int, mb: float) -> None:
        """Write to held memory, and wait until it is done."""
        self._call(
            "cuMemsetD8_v2", ctypes.c_uint64(address), ctypes.c_ubyte(1), ctypes.c_size_t(int(mb * MB))
        )
        self._call("cuCtxSynchronize")

    def _uuid(self, number: int) -> str:
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        name = "cuDeviceGetUuid_v2" if hasattr(self._library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        self._call(name, raw, device)
        return str(UUID(bytes=bytes(raw)))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == OUT_OF_MEMORY:
            raise CudaError(f"CUDA out of memory ({name})")
        if code:
            raise CudaError(f"CUDA error {code} ({name})")

"""Devices: which there are, which of them a sweep may use, who gets which, and how they fare.

`library` says what is asked of a driver, `nvml` asks NVIDIA's. Pure are `mask`, `assign`,
`handover`, `health`, `occupancy`, `presence` and `metering`. `placing` puts the first together at
a sweep's start, `watch` looks after a device whose worker died. Nothing here opens a context on a device.
"""

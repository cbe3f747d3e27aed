"""Devices: drivers, masks, assignment to slots, health, sharing by memory, energy, other users.

`placing` assigns devices at a sweep's start, `watch` looks after a device whose worker died. `mask`,
`health` and `sharing` are pure. Nothing here opens a context on a device.
"""

"""A machine's part in a sweep's pool: what it tells, what it is granted, and when it must let go.

`Membership` speaks for it in threads of its own; `Outbox` knows what is to be said.
"""

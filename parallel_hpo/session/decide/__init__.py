"""The session's decisions: pure functions of the sweep's view, an event and the time.

decide        the entry point: takes an event, returns the next view and the actions for `loop`
state         the view, and the legal moves of a worker slot; `draft` is the view while a decision changes it
events        events and actions
demand        what an idle worker gets, and what this machine asks the pool for
deaths        the end of a process or of a run
devices       quarantine, other users, the number of workers on a device
stopping      stops, timeouts, limits, the deadline and the end of the sweep; seeds
"""

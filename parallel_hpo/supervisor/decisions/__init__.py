"""What the supervisor decides: pure functions of the sweep's view, an event and the time.

`decide` is the one door: it takes an event, lets the others change a `Draft` of the view, and
returns it with the actions that follow. `loop` acts on them.
"""

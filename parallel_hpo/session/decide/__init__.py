"""What the supervisor decides: pure functions of the sweep's view, an event and the time.

`decide` is the one door: it takes an event, lets the others change a `Draft` of the view, and
returns it with the actions that follow. `loop` acts on them.

    view, events, actions   what a decision rests on, what has happened, what is to be done
    starts, run_ends        a run is about to enter `main`, or has left it
    leases, grants          what an idle worker is given; what a pool of many machines lets start here
    deaths, limits          a process is gone; time or memory is used up
    device_care, occupancy  devices in quarantine or left to their owners; how many workers share one
    scaling, seeding        more or fewer workers; a run's own seed
    deadline, sweep_end     runs that would not end in time; when all leave
"""

"""The parts of `scripts/chaos`: a sweep or a fleet of machines, what its runs do, and the checks."""

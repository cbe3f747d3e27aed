"""What goes for good: runs, sweeps, projects, and what belongs to nothing any more."""

"""What processes tell each other: supervisor and children over a pipe, machines and a pool over HTTP."""

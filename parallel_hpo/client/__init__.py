"""Start, watch and call a sweep server: the embedded one, another parallel_hpo server, or W&B's.

Requests go through the wandb client; those to a parallel_hpo server's own API go through `ServerClient`.
The server is another process, so `parallel_hpo.server` is not imported.
"""

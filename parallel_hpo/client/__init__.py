"""Start, watch and call a sweep server: the embedded one, another of ours, or W&B's.

Requests go through the wandb client; those that only a server of ours has go through `ServerClient`.
The server is another process, so `parallel_hpo.server` is not imported.
"""

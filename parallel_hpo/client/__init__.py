"""Start, watch and reach a sweep server, the embedded one or W&B's own.

Workers and this room meet the server through the wandb client; what only the
embedded server offers goes through its own door. Does not know the `server` room:
it is a process to it.
"""

"""The child's side: what runs in the fork server and in the processes that it makes.

Imports `words` and `errors` only, for it is loaded in every worker beside the
user's own code. wandb's insides are leaned on in `pace` alone.
"""

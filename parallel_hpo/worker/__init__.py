"""The child's side: the fork server and the processes that it makes.

It imports little of this package, as it is loaded beside the user's code.
"""

"""The processes that are made here: a pool of children behind a fork server, their output, their ends.

Without policy: what is made, killed or waited for, others decide.
"""

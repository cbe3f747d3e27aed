"""Engines that know many machines: each finds them, starts a node on each, and says how it ended.

A *node* is the supervisor of one machine (`protocol.pool`). To an engine it is a command: what it does,
and what is counted, an engine doesn't know.
"""

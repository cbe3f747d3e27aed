"""What becomes of a sweep's pool by what its machines and its head say, and by their silence. Pure.

told ─▶ PoolDraft (what was read) ─▶ exchange, membership, lost, ending ─▶ what is to be written, and events
"""

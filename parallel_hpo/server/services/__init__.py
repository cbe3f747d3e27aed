"""One operation each, in one transaction: what a client wants becomes what the store does."""

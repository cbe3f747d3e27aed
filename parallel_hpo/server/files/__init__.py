"""Files that clients send: where they lie, and the signed addresses by which they come and go."""

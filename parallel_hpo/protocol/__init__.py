"""All that goes over a pipe between the supervisor and its children: one home for both of its ends."""

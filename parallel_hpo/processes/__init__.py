"""The children behind the fork server: start, environment, output, end. Without policy: callers decide."""

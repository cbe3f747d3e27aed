"""The search methods grid, random and bayes behind one ask-and-tell interface."""

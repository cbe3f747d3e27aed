"""Where a sweep's parameters come from: grid, random and bayes behind one ask/tell interface."""

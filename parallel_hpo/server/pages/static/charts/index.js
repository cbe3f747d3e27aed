// Where the charts come from: each page calls the function for it once its data is there.

export function mountSweep(_root, _store, _base) {}

export function mountRun(_root, _runData, _base) {}

-- The ledger of a sweep whose session was killed, by a version with format 3: 3 runs ended, 2 were running.
CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (run_id), attempt INTEGER NOT NULL, slot INTEGER NOT NULL,
    started_at REAL NOT NULL, outcome TEXT, reason TEXT, duration_s REAL, PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempts VALUES('du5cvf0y',1,0,1796228594.235,NULL,NULL,NULL);
INSERT INTO attempts VALUES('qergxjm4',1,0,1796228592.353,'crashed','exit 9',0.567);
INSERT INTO attempts VALUES('qergxjm4',2,0,1796228593.169,'finished','',0.867);
INSERT INTO attempts VALUES('s9df1bvr',1,1,1796228591.336,'finished','',0.742);
INSERT INTO attempts VALUES('vb84bbcw',1,0,1796228591.465,'failed','RuntimeError: no luck',0.66);
INSERT INTO attempts VALUES('z2zo28l8',1,1,1796228592.611,NULL,NULL,NULL);
CREATE TABLE consumption (
    run_id TEXT NOT NULL, attempt INTEGER NOT NULL, device_hours REAL, device_kwh REAL, cpu_kwh REAL,
    PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO facts VALUES('path','"local/p/e4iu6qga"');
INSERT INTO facts VALUES('name','null');
INSERT INTO facts VALUES('began_at','1796228590.889');
INSERT INTO facts VALUES('url','"http://127.0.0.1:40000/local/p/sweeps/e4iu6qga"');
INSERT INTO facts VALUES('backend','"local"');
INSERT INTO facts VALUES('created','true');
INSERT INTO facts VALUES('count','6');
INSERT INTO facts VALUES('count_given','false');
INSERT INTO facts VALUES('before','0');
INSERT INTO facts VALUES('run_cap','null');
INSERT INTO facts VALUES('seed','7');
INSERT INTO facts VALUES('seed_parameter','null');
INSERT INTO facts VALUES('metric','"loss"');
INSERT INTO facts VALUES('goal','"minimize"');
INSERT INTO facts VALUES('main','{"kind": "Target", "file": "train", "function": "main", "argv": []}');
INSERT INTO facts VALUES('main_not_kept','""');
INSERT INTO facts VALUES('versions','{"python": "3.11", "wandb": "0.31.0", "parallel_hpo": "0.1.0"}');
CREATE TABLE machines (
    epoch INTEGER PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL, departure TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE marks (
    at REAL NOT NULL, kind TEXT NOT NULL, slot INTEGER, device TEXT, reason TEXT NOT NULL
) STRICT;
INSERT INTO marks VALUES(1796228592.921,'restart',0,NULL,'');
CREATE TABLE places (
    slot INTEGER PRIMARY KEY, machine TEXT NOT NULL, number INTEGER NOT NULL, UNIQUE (machine, number)
) STRICT;
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, parameters TEXT NOT NULL,
    started_at REAL NOT NULL, slot INTEGER NOT NULL, device TEXT,
    outcome TEXT, reason TEXT NOT NULL DEFAULT '', value REAL,
    duration_s REAL, resumable INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO runs VALUES(1,'s9df1bvr','{"x": 0}',1796228591.336,1,NULL,'finished','',0.0,0.742,0);
INSERT INTO runs VALUES(2,'vb84bbcw','{"x": 1}',1796228591.465,0,NULL,'failed','RuntimeError: no luck',NULL,0.66,0);
INSERT INTO runs VALUES(3,'qergxjm4','{"x": 2}',1796228592.353,0,NULL,'finished','',1.0,1.434,0);
INSERT INTO runs VALUES(4,'z2zo28l8','{"x": 3}',1796228592.611,1,NULL,NULL,'',NULL,NULL,0);
INSERT INTO runs VALUES(5,'du5cvf0y','{"x": 4}',1796228594.235,0,NULL,NULL,'',NULL,NULL,0);
CREATE TABLE seeds (run_id TEXT PRIMARY KEY, seed INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO seeds VALUES('du5cvf0y',1560965458);
INSERT INTO seeds VALUES('qergxjm4',547061232);
INSERT INTO seeds VALUES('s9df1bvr',1680640654);
INSERT INTO seeds VALUES('vb84bbcw',40109119);
INSERT INTO seeds VALUES('z2zo28l8',1054013345);
CREATE TABLE workers (
    slot INTEGER PRIMARY KEY, device TEXT, restarts INTEGER NOT NULL
) STRICT;
INSERT INTO workers VALUES(0,NULL,1);
INSERT INTO workers VALUES(1,NULL,0);
PRAGMA user_version = 3;

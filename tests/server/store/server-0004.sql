BEGIN TRANSACTION;
CREATE TABLE agents (
	id VARCHAR(32) NOT NULL, 
	sweep_id VARCHAR(64) NOT NULL, 
	label VARCHAR(64) NOT NULL, 
	host TEXT NOT NULL, 
	gone BOOLEAN NOT NULL, 
	created_at FLOAT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "agents" VALUES('id000001','id000000','w0','host',0,1000000.0,1000000.0);
INSERT INTO "agents" VALUES('id000004','id000000','w1','host',0,1000000.0,1000000.0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE artifact_aliases (
	collection_id INTEGER NOT NULL, 
	alias VARCHAR(128) NOT NULL, 
	artifact_id INTEGER NOT NULL, 
	PRIMARY KEY (collection_id, alias), 
	FOREIGN KEY(collection_id) REFERENCES artifact_collections (id), 
	FOREIGN KEY(artifact_id) REFERENCES artifacts (id)
);
INSERT INTO "artifact_aliases" VALUES(1,'latest',1);
CREATE TABLE artifact_collections (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	type VARCHAR(255) NOT NULL, 
	description TEXT, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT artifact_collections_project_name UNIQUE (project_id, name), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "artifact_collections" VALUES(1,1,'data','dataset',NULL,1000000.0,1000000.0);
CREATE TABLE artifact_files (
	artifact_id INTEGER NOT NULL, 
	path VARCHAR(1000) NOT NULL, 
	digest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	ref TEXT, 
	PRIMARY KEY (artifact_id, path), 
	FOREIGN KEY(artifact_id) REFERENCES artifacts (id)
);
INSERT INTO "artifact_files" VALUES(1,'f','d',1,NULL);
CREATE TABLE artifact_uses (
	run_id INTEGER NOT NULL, 
	artifact_id INTEGER NOT NULL, 
	PRIMARY KEY (run_id, artifact_id), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(artifact_id) REFERENCES artifacts (id)
);
INSERT INTO "artifact_uses" VALUES(2,1);
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	collection_id INTEGER NOT NULL, 
	run_id INTEGER, 
	version INTEGER, 
	state VARCHAR(16) NOT NULL, 
	digest TEXT NOT NULL, 
	client_id VARCHAR(255), 
	description TEXT, 
	metadata TEXT, 
	tags TEXT NOT NULL, 
	wanted_aliases TEXT NOT NULL, 
	history_step BIGINT, 
	ttl_s BIGINT, 
	size BIGINT NOT NULL, 
	file_count INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(collection_id) REFERENCES artifact_collections (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "artifacts" VALUES(1,1,1,0,'COMMITTED','d','c1',NULL,NULL,'[]','["latest"]',NULL,NULL,0,0,1000000.0,1000000.0);
CREATE TABLE band_losses (
	sweep_id VARCHAR(64) NOT NULL, 
	band INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	loss FLOAT NOT NULL, 
	PRIMARY KEY (sweep_id, band, run_id), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "band_losses" VALUES('id000000',1,1,0.5);
CREATE TABLE lines (
	run_id INTEGER NOT NULL, 
	stream INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	step BIGINT, 
	text TEXT NOT NULL, 
	PRIMARY KEY (run_id, stream, number), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "lines" VALUES(1,0,0,0,'{"_step":0,"loss":NaN}');
INSERT INTO "lines" VALUES(1,0,1,1,'{"_step":1,"loss":0.5}');
INSERT INTO "lines" VALUES(1,1,0,NULL,'{"system.cpu":1}');
INSERT INTO "lines" VALUES(1,2,0,NULL,'2026-01-01T00:00:00.000000 hello');
CREATE TABLE open_points (
	sweep_id VARCHAR(64) NOT NULL, 
	sweep_index INTEGER NOT NULL, 
	assigned TEXT NOT NULL, 
	PRIMARY KEY (sweep_id, sweep_index), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "open_points" VALUES('id000000',2,'{"x": 2}');
CREATE TABLE projects (
	id INTEGER NOT NULL, 
	entity VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT projects_entity_name UNIQUE (entity, name)
);
INSERT INTO "projects" VALUES(1,'local','p',1000000.0);
CREATE TABLE run_files (
	run_id INTEGER NOT NULL, 
	name VARCHAR(1000) NOT NULL, 
	size BIGINT NOT NULL, 
	md5 VARCHAR(32) NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (run_id, name), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "run_files" VALUES(1,'config.yaml',3,'00000000000000000000000000000000',1000000.0);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	sweep_id VARCHAR(64), 
	sweep_index INTEGER, 
	assigned TEXT, 
	agent_id VARCHAR(32), 
	waiting BOOLEAN NOT NULL, 
	deliveries INTEGER NOT NULL, 
	sweep_revision INTEGER NOT NULL, 
	value FLOAT, 
	stop_requested BOOLEAN NOT NULL, 
	exitcode INTEGER, 
	display_name TEXT, 
	description TEXT, 
	notes TEXT, 
	group_name TEXT, 
	job_type TEXT, 
	commit_hash TEXT, 
	host TEXT, 
	program TEXT, 
	repo TEXT, 
	tags TEXT NOT NULL, 
	config TEXT NOT NULL, 
	summary TEXT NOT NULL, 
	system_metrics TEXT NOT NULL, 
	history_keys TEXT NOT NULL, 
	history_lines INTEGER NOT NULL, 
	event_lines INTEGER NOT NULL, 
	log_lines INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	heard_at FLOAT NOT NULL, 
	metric_rows INTEGER, 
	best_loss FLOAT, 
	PRIMARY KEY (id), 
	CONSTRAINT runs_project_name UNIQUE (project_id, name), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
);
INSERT INTO "runs" VALUES(1,1,'id000002','finished','id000000',0,'{"x": 0}','id000001',0,1,3,0.5,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','{"x": {"value": 0}}','{"loss": 0.5, "best": -Infinity}','{"system.cpu": 1}','{"sets": [], "keys": {"_step": {"typeCounts": [{"type": "number", "count": 2}], "previousValue": 1}, "loss": {"typeCounts": [{"type": "number", "count": 2}], "previousValue": 0.5}}, "lastStep": 1}',2,1,1,1000000.0,1000000.0,1000000.0,NULL,NULL);
INSERT INTO "runs" VALUES(2,1,'id000003','running','id000000',1,'{"x": 1}','id000001',0,1,5,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','{"x": {"value": 1}}','{}','{}','{"sets": [], "keys": {}, "lastStep": -1}',0,0,0,1000000.0,1000000.0,1000000.0,NULL,NULL);
CREATE TABLE sweeps (
	id VARCHAR(64) NOT NULL, 
	project_id INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	config TEXT NOT NULL, 
	method VARCHAR(64) NOT NULL, 
	metric_name TEXT, 
	run_cap INTEGER, 
	seed BIGINT NOT NULL, 
	display_name TEXT, 
	description TEXT, 
	controller TEXT, 
	scheduler TEXT, 
	prior_runs_filters TEXT, 
	issued INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	next_index INTEGER, 
	engine VARCHAR(16), 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "sweeps" VALUES('id000000',1,'RUNNING','method: grid
metric:
  goal: minimize
  name: loss
parameters:
  x:
    values:
    - 0
    - 1
    - 2
    - 3
','grid','loss',NULL,7,NULL,NULL,NULL,NULL,NULL,3,8,1000000.0,1000000.0,1000000.0,NULL,'auto');
CREATE INDEX sweeps_project ON sweeps (project_id);
CREATE INDEX agents_sweep_label ON agents (sweep_id, label);
CREATE INDEX runs_state_heard ON runs (state, heard_at);
CREATE INDEX runs_sweep_state ON runs (sweep_id, state);
CREATE INDEX runs_sweep_waiting ON runs (sweep_id, waiting);
CREATE INDEX runs_sweep_revision ON runs (sweep_id, sweep_revision);
CREATE INDEX runs_sweep_name ON runs (sweep_id, name);
CREATE INDEX runs_agent_state ON runs (agent_id, state);
CREATE INDEX lines_step ON lines (run_id, stream, step);
CREATE INDEX band_losses_run ON band_losses (run_id);
CREATE INDEX artifacts_collection_version ON artifacts (collection_id, version);
CREATE INDEX artifacts_client ON artifacts (client_id);
CREATE INDEX artifacts_run ON artifacts (run_id);
CREATE INDEX artifact_aliases_artifact ON artifact_aliases (artifact_id);
CREATE INDEX artifact_uses_artifact ON artifact_uses (artifact_id);
COMMIT;

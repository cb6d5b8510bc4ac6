-- Whoever cancels a running job ends it at once.
UPDATE jobs SET state = 'cancelled', finished_at = created_at WHERE state = 'running' AND cancel_requested;
ALTER TABLE jobs DROP COLUMN cancel_requested;
-- No server runs while the rows are brought up to date.
UPDATE jobs SET state = 'queued' WHERE state = 'running';

ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
-- Whose job it is: clients take turns.
ALTER TABLE jobs ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
-- The order of submission. Ids have it too, but by a clock that can be set back.
ALTER TABLE jobs ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0;
-- Whether no job of its model was submitted before and has not ended.
ALTER TABLE jobs ADD COLUMN is_next BOOLEAN NOT NULL DEFAULT FALSE;
-- The version it starts from, which must not go before it ends.
ALTER TABLE jobs ADD COLUMN initial_model TEXT;
-- Counts the renewals of the lease: a worker whose beat stands still has lost its job.
ALTER TABLE jobs ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;

UPDATE jobs SET sequence = rowid, initial_model = json_extract(spec, '$.initial_model');
UPDATE jobs SET is_next = TRUE WHERE sequence IN
    (SELECT MIN(sequence) FROM jobs WHERE state IN ('queued', 'running') GROUP BY model);

DROP INDEX jobs_queued;
-- SQLite would take it before the ones below, and read and sort every job of a state.
DROP INDEX jobs_by_state;
-- The claim of the queue reads the first row of this index.
CREATE INDEX jobs_queue ON jobs (state, priority DESC, turn, sequence) WHERE state = 'queued' AND is_next;
CREATE INDEX jobs_turns_of_client ON jobs (client, priority, turn) WHERE state = 'queued';
CREATE INDEX jobs_of_model_to_do ON jobs (model, sequence) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_running ON jobs (model) WHERE state = 'running';
CREATE UNIQUE INDEX jobs_sequence ON jobs (sequence);
CREATE INDEX jobs_ended ON jobs (sequence) WHERE state IN ('succeeded', 'failed', 'cancelled');

CREATE TRIGGER jobs_next AFTER UPDATE OF state ON jobs
WHEN OLD.state IN ('queued', 'running') AND NEW.state NOT IN ('queued', 'running')
BEGIN
    UPDATE jobs SET is_next = TRUE WHERE id =
        (SELECT id FROM jobs WHERE model = NEW.model AND state IN ('queued', 'running') ORDER BY sequence LIMIT 1);
END;

-- The turn that each priority has come to: whoever has no job in the queue joins behind it.
CREATE TABLE turns (
    priority BIGINT NOT NULL PRIMARY KEY,
    turn     BIGINT NOT NULL
);
CREATE TRIGGER jobs_turn AFTER UPDATE OF state ON jobs WHEN NEW.state = 'running'
BEGIN
    INSERT INTO turns (priority, turn) VALUES (NEW.priority, NEW.turn)
    ON CONFLICT (priority) DO UPDATE SET turn = MAX(turn, excluded.turn);
END;

-- How many jobs are in each state: counting a long table at each request would take too long.
CREATE TABLE job_counts (
    state TEXT   NOT NULL PRIMARY KEY,
    jobs  BIGINT NOT NULL
);
INSERT INTO job_counts (state, jobs)
SELECT column1, (SELECT COUNT(*) FROM jobs WHERE state = column1)
FROM (VALUES ('queued'), ('running'), ('succeeded'), ('failed'), ('cancelled'));
CREATE TRIGGER jobs_count_insert AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_count_update AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = OLD.state;
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_count_delete AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = OLD.state;
END;

-- The number of a version is never given twice, though versions can be deleted.
CREATE TABLE models (
    name         TEXT   NOT NULL PRIMARY KEY,
    last_version BIGINT NOT NULL
);
INSERT INTO models (name, last_version) SELECT name, MAX(version) FROM model_versions GROUP BY name;

CREATE TABLE model_aliases (
    name    TEXT   NOT NULL,
    alias   TEXT   NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version)
);
CREATE INDEX model_aliases_by_version ON model_aliases (name, version);

-- Grows with every change of a model: what other servers have read is compared with it.
CREATE TABLE model_revision (revision BIGINT NOT NULL);
INSERT INTO model_revision (revision) VALUES (1);
CREATE TRIGGER model_versions_insert AFTER INSERT ON model_versions
BEGIN
    UPDATE model_revision SET revision = revision + 1;
END;
CREATE TRIGGER model_versions_delete AFTER DELETE ON model_versions
BEGIN
    UPDATE model_revision SET revision = revision + 1;
END;
CREATE TRIGGER model_aliases_insert AFTER INSERT ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
END;
CREATE TRIGGER model_aliases_update AFTER UPDATE ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
END;
CREATE TRIGGER model_aliases_delete AFTER DELETE ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
END;

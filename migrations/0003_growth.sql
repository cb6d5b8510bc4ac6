-- A job has ended if it has this time, and only then.
UPDATE jobs SET finished_at = created_at WHERE state NOT IN ('queued', 'running') AND finished_at IS NULL;
UPDATE jobs SET finished_at = NULL WHERE state IN ('queued', 'running') AND finished_at IS NOT NULL;

-- Lists of jobs by state. Those that have not ended are apart: a claim changes none of these rows' `finished_at`, and so writes
-- none of these indexes.
CREATE INDEX jobs_listed_to_do ON jobs (id) WHERE finished_at IS NULL;
CREATE INDEX jobs_listed_to_do_by_model ON jobs (model, id) WHERE finished_at IS NULL;
CREATE INDEX jobs_listed_ended ON jobs (state, id) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_listed_ended_by_model ON jobs (state, model, id) WHERE finished_at IS NOT NULL;
-- Retention by number and by age. Where a condition is a list of three states, each change of a row makes a table of them.
DROP INDEX jobs_ended;
CREATE INDEX jobs_ended ON jobs (sequence) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_ended_at ON jobs (finished_at, sequence) WHERE finished_at IS NOT NULL;
-- Whether a version may go.
CREATE INDEX jobs_to_do_from ON jobs (initial_model) WHERE finished_at IS NULL AND initial_model IS NOT NULL;

-- The course of a job without its layers, which take most of a record.
CREATE INDEX job_epochs_course ON job_epochs (
    job_id, epoch, record ->> '$.train_loss', record ->> '$.train_accuracy', record ->> '$.validation_loss',
    record ->> '$.validation_accuracy', record ->> '$.learning_rate'
) WHERE json_valid(record);

-- The revision at which a model last changed, and at which a version was published: a server reads what is newer than
-- what it has.
ALTER TABLE models ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE model_versions ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE INDEX models_by_revision ON models (revision);
CREATE INDEX model_versions_by_revision ON model_versions (revision);

DROP TRIGGER model_versions_insert;
DROP TRIGGER model_versions_delete;
DROP TRIGGER model_aliases_insert;
DROP TRIGGER model_aliases_update;
DROP TRIGGER model_aliases_delete;
CREATE TRIGGER model_versions_insert AFTER INSERT ON model_versions
BEGIN
    UPDATE model_revision SET revision = revision + 1;
    UPDATE models SET revision = (SELECT revision FROM model_revision) WHERE name = NEW.name;
    UPDATE model_versions SET revision = (SELECT revision FROM model_revision)
    WHERE name = NEW.name AND version = NEW.version;
END;
CREATE TRIGGER model_versions_delete AFTER DELETE ON model_versions
BEGIN
    UPDATE model_revision SET revision = revision + 1;
    UPDATE models SET revision = (SELECT revision FROM model_revision) WHERE name = OLD.name;
END;
CREATE TRIGGER model_aliases_insert AFTER INSERT ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
    UPDATE models SET revision = (SELECT revision FROM model_revision) WHERE name = NEW.name;
END;
CREATE TRIGGER model_aliases_update AFTER UPDATE ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
    UPDATE models SET revision = (SELECT revision FROM model_revision) WHERE name = NEW.name;
END;
CREATE TRIGGER model_aliases_delete AFTER DELETE ON model_aliases
BEGIN
    UPDATE model_revision SET revision = revision + 1;
    UPDATE models SET revision = (SELECT revision FROM model_revision) WHERE name = OLD.name;
END;

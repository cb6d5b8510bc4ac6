-- Lists of jobs read these. They name the condition and no other statement does: SQLite would take these indexes before those
-- of the queue and of retention, and sort what it finds.
CREATE INDEX jobs_listed_by_state ON jobs (state, id) WHERE id > '';
CREATE INDEX jobs_listed_by_state_and_model ON jobs (state, model, id) WHERE id > '';
-- Retention by age.
CREATE INDEX jobs_ended_at ON jobs (finished_at, sequence) WHERE state IN ('succeeded', 'failed', 'cancelled');
-- Whether a version may go.
CREATE INDEX jobs_to_do_from ON jobs (initial_model) WHERE state IN ('queued', 'running') AND initial_model IS NOT NULL;

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

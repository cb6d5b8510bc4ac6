-- A version need not come from a job: then it may be untested, and no job is named. It belongs to a caller; '' for versions from
-- before. SQLite can't drop a NOT NULL, so the table is made anew. The aliases refer to it and are made anew as well: a table that
-- others refer to can't be dropped within a transaction.
CREATE TABLE earlier_aliases AS SELECT name, alias, version FROM model_aliases;
DROP TABLE model_aliases;
ALTER TABLE model_versions RENAME TO earlier_versions;
DROP TRIGGER model_versions_insert;
DROP TRIGGER model_versions_delete;
DROP INDEX model_versions_by_revision;

CREATE TABLE model_versions (
    name          TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    source        TEXT   NOT NULL CHECK (source IN ('job', 'upload', 'import')),
    owner         TEXT   NOT NULL,
    job_id        TEXT   UNIQUE,
    test_accuracy DOUBLE PRECISION,
    parameters    BIGINT NOT NULL,
    layers        TEXT   NOT NULL,
    classes       TEXT   NOT NULL,
    blob_key      TEXT   NOT NULL,
    size_bytes    BIGINT NOT NULL,
    sha256        TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    revision      BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (name, version),
    CHECK ((source = 'job') = (job_id IS NOT NULL))
);
INSERT INTO model_versions (name, version, source, owner, job_id, test_accuracy, parameters, layers, classes, blob_key,
                            size_bytes, sha256, created_at, revision)
SELECT name, version, 'job', '', job_id, test_accuracy, parameters, layers, classes, blob_key, size_bytes, sha256, created_at,
       revision
FROM earlier_versions;
DROP TABLE earlier_versions;

CREATE TABLE model_aliases (
    name    TEXT   NOT NULL,
    alias   TEXT   NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version)
);
INSERT INTO model_aliases (name, alias, version) SELECT name, alias, version FROM earlier_aliases;
DROP TABLE earlier_aliases;

CREATE INDEX model_versions_by_revision ON model_versions (revision);
CREATE INDEX model_aliases_by_version ON model_aliases (name, version);
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

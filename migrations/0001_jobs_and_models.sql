-- Times are microseconds since 1970, UTC. Ids are UUIDv7 as text, so they sort by age.

CREATE TABLE jobs (
    id               TEXT    NOT NULL PRIMARY KEY,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    model            TEXT    NOT NULL,
    spec             TEXT    NOT NULL,
    attempt          BIGINT  NOT NULL DEFAULT 0,
    -- Deaths of a server while this job ran, since its last epoch.
    crashes          BIGINT  NOT NULL DEFAULT 0,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    idempotency_key  TEXT    UNIQUE,
    request_sha256   TEXT    NOT NULL,
    progress         TEXT    NOT NULL,
    metrics          TEXT,
    result           TEXT,
    error            TEXT,
    created_at       BIGINT  NOT NULL,
    started_at       BIGINT,
    finished_at      BIGINT
);

-- The claim of the queue reads the oldest row of this index.
CREATE INDEX jobs_queued ON jobs (id) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_model ON jobs (model, id);

CREATE TABLE job_epochs (
    job_id TEXT   NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    epoch  BIGINT NOT NULL,
    record TEXT   NOT NULL,
    PRIMARY KEY (job_id, epoch)
);

CREATE TABLE job_steps (
    job_id        TEXT             NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step          BIGINT           NOT NULL,
    loss          DOUBLE PRECISION NOT NULL,
    learning_rate DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (job_id, step)
);

-- A checkpoint is kept once its row is: the file is written before.
CREATE TABLE checkpoints (
    job_id              TEXT             NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step                BIGINT           NOT NULL,
    epoch               BIGINT           NOT NULL,
    blob_key            TEXT             NOT NULL,
    size_bytes          BIGINT           NOT NULL,
    sha256              TEXT             NOT NULL,
    validation_accuracy DOUBLE PRECISION,
    created_at          BIGINT           NOT NULL,
    PRIMARY KEY (job_id, step)
);

CREATE TABLE model_versions (
    name          TEXT             NOT NULL,
    version       BIGINT           NOT NULL,
    job_id        TEXT             NOT NULL UNIQUE,
    test_accuracy DOUBLE PRECISION NOT NULL,
    parameters    BIGINT           NOT NULL,
    layers        TEXT             NOT NULL,
    classes       TEXT             NOT NULL,
    blob_key      TEXT             NOT NULL,
    size_bytes    BIGINT           NOT NULL,
    sha256        TEXT             NOT NULL,
    created_at    BIGINT           NOT NULL,
    PRIMARY KEY (name, version)
);

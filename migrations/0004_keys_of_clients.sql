-- A key belongs to its client: the same key of another client is another one. Neither holds the separator, which is char(31).
-- Jobs from before clients were told apart keep their keys as they came.
UPDATE jobs SET idempotency_key = client || char(31) || idempotency_key WHERE idempotency_key IS NOT NULL AND client <> '';

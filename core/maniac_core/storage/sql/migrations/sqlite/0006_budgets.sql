-- Budgets and what is spent and reserved of them; limits of single keys; usage by tag.

-- Requests and tokens per window, besides those of the organization. NULL: no limit of its own.
ALTER TABLE api_keys ADD COLUMN rate_limit INTEGER;
ALTER TABLE api_keys ADD COLUMN token_limit INTEGER;

-- A budget of an organization, or of one of its projects, or of one of that project's keys; 0 stands for all of them.
CREATE TABLE budgets (
  id             INTEGER PRIMARY KEY,
  organization   INTEGER NOT NULL,
  project        INTEGER NOT NULL,
  api_key        INTEGER NOT NULL,
  period         TEXT    NOT NULL CHECK (period IN ('day', 'month', 'total')),
  limit_nano_usd INTEGER NOT NULL,
  created        INTEGER NOT NULL,
  UNIQUE (organization, project, api_key, period)
) STRICT;

-- What was spent of a budget in each of its periods; start is the period's first second, 0 of one that never ends.
CREATE TABLE budget_windows (
  budget         INTEGER NOT NULL,
  start          INTEGER NOT NULL,
  spent_nano_usd INTEGER NOT NULL,
  PRIMARY KEY (budget, start)
) STRICT, WITHOUT ROWID;

-- What running requests may still cost. A request's core renews `expires` while it runs; its record takes the row away.
CREATE TABLE budget_reservations (
  id              TEXT    NOT NULL,
  budget          INTEGER NOT NULL,
  start           INTEGER NOT NULL,
  amount_nano_usd INTEGER NOT NULL,
  expires         INTEGER NOT NULL,
  PRIMARY KEY (id, budget)
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_reservations_window ON budget_reservations (budget, start, expires, amount_nano_usd);
CREATE INDEX budget_reservations_expires ON budget_reservations (expires);

-- Whoever reserves locks the row of the organization first, so that two cores never count the same money twice.
CREATE TABLE budget_turns (
  organization INTEGER NOT NULL PRIMARY KEY,
  turn         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO cache_versions (name, version) VALUES ('budgets', 0);

CREATE TRIGGER budgets_inserted AFTER INSERT ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;
CREATE TRIGGER budgets_updated AFTER UPDATE ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;
CREATE TRIGGER budgets_deleted AFTER DELETE ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;

-- As usage_daily, for each tag of the requests that carry tags. Tag '' counts each of these requests once.
CREATE TABLE usage_tags_daily (
  day                   INTEGER NOT NULL,
  organization          INTEGER NOT NULL,
  project               INTEGER NOT NULL,
  tag                   TEXT    NOT NULL,
  api_key               INTEGER NOT NULL,
  model                 TEXT    NOT NULL,
  provider              TEXT    NOT NULL,
  container             INTEGER NOT NULL,
  status                TEXT    NOT NULL,
  requests              INTEGER NOT NULL,
  input_tokens          INTEGER NOT NULL,
  cache_read_tokens     INTEGER NOT NULL,
  cache_write_tokens    INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  output_tokens         INTEGER NOT NULL,
  reasoning_tokens      INTEGER NOT NULL,
  spend_nano_usd        INTEGER NOT NULL,
  unpriced              INTEGER NOT NULL,
  PRIMARY KEY (project, day, tag, api_key, model, provider, container, status)
) STRICT, WITHOUT ROWID;

-- What was captured before this table was there.
INSERT INTO usage_tags_daily
SELECT created / 86400, organization, project, tag, COALESCE(api_key, 0), COALESCE(model, ''), COALESCE(provider, ''),
       COALESCE(container, 0), status, COUNT(*), SUM(input_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens),
       SUM(cache_write_1h_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(COALESCE(spend_nano_usd, 0)),
       SUM(spend_nano_usd IS NULL AND input_tokens + cache_read_tokens + cache_write_tokens + cache_write_1h_tokens
           + output_tokens + reasoning_tokens > 0)
  FROM (
    SELECT DISTINCT c.*, t.value AS tag FROM completions c, json_each(c.tags) t WHERE t.value <> ''
    UNION ALL
    SELECT c.*, '' AS tag FROM completions c
     WHERE EXISTS (SELECT 1 FROM json_each(c.tags) t WHERE t.value <> '')
  )
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

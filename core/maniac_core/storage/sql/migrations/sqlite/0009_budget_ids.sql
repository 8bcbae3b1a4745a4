-- The id of a removed budget is never given to another: requests that still run would charge that one.

CREATE TABLE budgets_new (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  organization   INTEGER NOT NULL,
  project        INTEGER NOT NULL,
  api_key        INTEGER NOT NULL,
  period         TEXT    NOT NULL CHECK (period IN ('day', 'month', 'total')),
  limit_nano_usd INTEGER NOT NULL,
  created        INTEGER NOT NULL,
  UNIQUE (organization, project, api_key, period)
) STRICT;

INSERT INTO budgets_new (id, organization, project, api_key, period, limit_nano_usd, created)
SELECT id, organization, project, api_key, period, limit_nano_usd, created FROM budgets;

DROP TABLE budgets;
ALTER TABLE budgets_new RENAME TO budgets;

-- Requests that still run may have reserved of budgets that were removed, whose ids are in their records then.
DELETE FROM sqlite_sequence WHERE name = 'budgets';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'budgets', COALESCE(MAX(id), 0) FROM (SELECT id FROM budgets UNION ALL SELECT budget FROM budget_reservations);
DELETE FROM budget_reservations WHERE budget NOT IN (SELECT id FROM budgets);

CREATE TRIGGER budgets_inserted AFTER INSERT ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;
CREATE TRIGGER budgets_updated AFTER UPDATE ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;
CREATE TRIGGER budgets_deleted AFTER DELETE ON budgets BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'budgets';
END;

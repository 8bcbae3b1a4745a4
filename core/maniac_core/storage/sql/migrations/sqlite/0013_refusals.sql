-- How many requests of each key were refused for what reason, where there is no record of them: above a rate limit, or
-- not to be read. Day counts from 1970; code is `error.code`; api_key 0: the internal service key.

CREATE TABLE refusals_daily (
  day          INTEGER NOT NULL,
  organization INTEGER NOT NULL,
  project      INTEGER NOT NULL,
  api_key      INTEGER NOT NULL,
  code         TEXT    NOT NULL,
  requests     INTEGER NOT NULL,
  PRIMARY KEY (project, day, api_key, code)
) STRICT, WITHOUT ROWID;

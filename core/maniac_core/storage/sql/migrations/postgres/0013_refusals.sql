-- How many requests of each key were refused for what reason, where there is no record of them: above a rate limit, or
-- not to be read. Day counts from 1970; code is `error.code`; api_key 0: the internal service key.

CREATE TABLE refusals_daily (
  day          bigint NOT NULL,
  organization bigint NOT NULL,
  project      bigint NOT NULL,
  api_key      bigint NOT NULL,
  code         text COLLATE "C" NOT NULL,
  requests     bigint NOT NULL,
  PRIMARY KEY (project, day, api_key, code)
);

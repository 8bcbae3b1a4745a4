-- The daily sums of tags once more, of all keys, models, providers and containers together: a report by tag reads
-- these, a hundredth of the rows. As in usage_tags_daily, tag '' counts each request with tags once.

CREATE TABLE usage_tag_days (
  project               INTEGER NOT NULL,
  tag                   TEXT    NOT NULL,
  day                   INTEGER NOT NULL,
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
  PRIMARY KEY (project, tag, day, status)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_tag_days
SELECT project, tag, day, status, SUM(requests), SUM(input_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens),
       SUM(cache_write_1h_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(spend_nano_usd), SUM(unpriced)
  FROM usage_tags_daily
 GROUP BY project, tag, day, status;

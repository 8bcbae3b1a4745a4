-- The daily sums of tags once more, of all keys, models, providers and containers together: a report by tag reads
-- these, a hundredth of the rows. As in usage_tags_daily, tag '' counts each request with tags once.
-- Cores of the version before do not add to them; so reports by tag lack what those do until they are restarted.

CREATE TABLE usage_tag_days_folded (
  project               bigint           NOT NULL,
  tag                   text COLLATE "C" NOT NULL,
  day                   bigint           NOT NULL,
  status                text COLLATE "C" NOT NULL,
  requests              bigint           NOT NULL,
  input_tokens          bigint           NOT NULL,
  cache_read_tokens     bigint           NOT NULL,
  cache_write_tokens    bigint           NOT NULL,
  cache_write_1h_tokens bigint           NOT NULL,
  output_tokens         bigint           NOT NULL,
  reasoning_tokens      bigint           NOT NULL,
  spend_nano_usd        bigint           NOT NULL,
  unpriced              bigint           NOT NULL,
  PRIMARY KEY (project, tag, day, status)
);

CREATE TABLE usage_tag_days_deltas (LIKE usage_tag_days_folded)
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX usage_tag_days_deltas_key ON usage_tag_days_deltas (project, tag, day);

INSERT INTO usage_tag_days_folded
SELECT project, tag, day, status, SUM(requests), SUM(input_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens),
       SUM(cache_write_1h_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(spend_nano_usd), SUM(unpriced)
  FROM usage_tags_daily
 GROUP BY project, tag, day, status;

CREATE VIEW usage_tag_days AS
SELECT project, tag, day, status,
       SUM(requests)::bigint AS requests,
       SUM(input_tokens)::bigint AS input_tokens,
       SUM(cache_read_tokens)::bigint AS cache_read_tokens,
       SUM(cache_write_tokens)::bigint AS cache_write_tokens,
       SUM(cache_write_1h_tokens)::bigint AS cache_write_1h_tokens,
       SUM(output_tokens)::bigint AS output_tokens,
       SUM(reasoning_tokens)::bigint AS reasoning_tokens,
       SUM(spend_nano_usd)::bigint AS spend_nano_usd,
       SUM(unpriced)::bigint AS unpriced
  FROM (SELECT * FROM usage_tag_days_folded UNION ALL SELECT * FROM usage_tag_days_deltas) rows
 GROUP BY project, tag, day, status;

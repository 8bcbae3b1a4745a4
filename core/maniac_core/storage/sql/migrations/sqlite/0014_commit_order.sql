-- Oldest first, lists go by position, which is the order of commits: who follows a list misses nothing. The time of
-- creation is that of the beginning, and what began first may be committed last.

CREATE INDEX completions_listed_order ON completions (project, listed, seq, created) WHERE listed = 1;
CREATE INDEX completions_model_order ON completions (project, model, listed, seq, created) WHERE listed = 1;
CREATE INDEX completions_container_order ON completions (project, container, listed, seq, created)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completions_container_model_order ON completions (project, container, model, listed, seq, created)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completion_facets_order ON completion_facets (facet, seq, created);

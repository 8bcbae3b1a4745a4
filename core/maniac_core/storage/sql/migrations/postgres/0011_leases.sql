-- Reservations whose core is gone stay: their money may be spent. Reports show them as requests of unknown outcome.

-- The process that holds it; whether it was taken ahead of requests that are still to come; whose it is, and since when.
ALTER TABLE budget_reservations ADD COLUMN holder text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE budget_reservations ADD COLUMN ahead bigint NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN project bigint NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN api_key bigint NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN created bigint NOT NULL DEFAULT 0;

CREATE INDEX budget_reservations_holder ON budget_reservations (holder);

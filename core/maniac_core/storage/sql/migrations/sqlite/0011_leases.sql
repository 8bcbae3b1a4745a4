-- Reservations whose core is gone stay: their money may be spent. Reports show them as requests of unknown outcome.

-- The process that holds it; whether it was taken ahead of requests that are still to come; whose it is, and since when.
ALTER TABLE budget_reservations ADD COLUMN holder TEXT NOT NULL DEFAULT '';
ALTER TABLE budget_reservations ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN project INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN api_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budget_reservations ADD COLUMN created INTEGER NOT NULL DEFAULT 0;

CREATE INDEX budget_reservations_holder ON budget_reservations (holder);

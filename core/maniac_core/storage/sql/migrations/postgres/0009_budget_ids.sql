-- The id of a removed budget is never given to another; here the identity column sees to that.

-- What requests that still ran had reserved of budgets when these were removed.
DELETE FROM budget_reservations r WHERE NOT EXISTS (SELECT 1 FROM budgets b WHERE b.id = r.budget);

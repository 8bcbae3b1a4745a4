"""A chat completion from the plan to the answer: attempts, breakers, idempotency."""

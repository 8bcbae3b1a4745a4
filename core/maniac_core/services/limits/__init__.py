"""Rate limits, requests at the same time, quotas."""

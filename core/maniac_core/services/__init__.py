"""Use cases: they make ids and times, decide, and call providers and storage. No gRPC, no SQL."""

"""The edge's side of gRPC: the relay and the plain calls."""

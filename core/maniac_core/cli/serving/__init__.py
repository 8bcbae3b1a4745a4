"""The parts of `serve`: its children, their ports and environment, and its output."""

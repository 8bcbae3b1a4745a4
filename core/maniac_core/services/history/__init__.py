"""What was captured: lists, export, registration, traces, usage, retention."""

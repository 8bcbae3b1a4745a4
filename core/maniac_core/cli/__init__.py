"""The `maniac-gateway` command: it composes, starts and inspects; it decides nothing."""

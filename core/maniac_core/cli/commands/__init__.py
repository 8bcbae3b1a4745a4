"""One module per sub-command of `maniac-gateway`."""

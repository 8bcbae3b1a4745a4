"""The server process: sockets, the HTTP protocol, write batching."""

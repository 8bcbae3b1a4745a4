"""gRPC over HTTP/2, read and written by the event loop itself.

It carries a few long-lived streams of messages between an edge and its cores without a thread, a lock, a task or a
future per message, and speaks the same protocol as any gRPC peer. What it leaves out: compression, server push,
priorities, and the dynamic table for headers that it sends.
"""

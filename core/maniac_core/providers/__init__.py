"""Upstream providers: the wire dialects and the transport that carries them."""

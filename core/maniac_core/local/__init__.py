"""The embedded model: llama.cpp in a process of its own, which the core calls like any other provider."""

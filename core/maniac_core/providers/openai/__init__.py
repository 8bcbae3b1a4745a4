"""OpenAI's chat completions API, and whoever speaks it."""

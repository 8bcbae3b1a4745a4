"""OpenAI's chat completions API, and the servers that speak it."""

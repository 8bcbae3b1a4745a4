"""OpenAI's Responses API, and those who speak it."""

"""OpenAI's chat completions, the form in which requests and answers travel between edge and core."""

"""Google's Vertex AI: Gemini and Claude at Google Cloud."""

"""The public JSON as msgspec structs: what decodes requests, encodes answers and describes both in OpenAPI."""

"""HTTP: connections, responses, SSE, middleware, the API's description."""

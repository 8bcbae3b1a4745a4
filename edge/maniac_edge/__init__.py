"""The edge of Maniac Gateway: OpenAI-style JSON and SSE to gRPC. It knows no rule of routing, money or storage."""

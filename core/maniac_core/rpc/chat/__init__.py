"""ChatService."""

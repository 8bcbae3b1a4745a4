"""RelayService."""

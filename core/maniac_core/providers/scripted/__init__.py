"""The provider that answers by rules and calls nobody."""

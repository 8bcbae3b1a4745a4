"""Bodies encrypted at rest."""

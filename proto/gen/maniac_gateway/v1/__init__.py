"""Generated from the contracts in proto/: do not edit."""

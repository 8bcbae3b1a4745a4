"""The APIs by which clients ask for completions: a folder each, which translates to chat and back."""

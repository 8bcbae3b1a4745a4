"""What the core is about: frozen values, errors and ids. Imports nothing of ours but the error table."""

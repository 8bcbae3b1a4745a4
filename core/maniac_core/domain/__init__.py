"""The core's domain: frozen values, errors and ids. It imports only the error table."""

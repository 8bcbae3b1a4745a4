"""The core of Maniac Gateway: authenticates, routes, calls providers and captures. It knows no HTTP surface."""

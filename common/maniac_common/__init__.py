"""What the edge and the core of Maniac Gateway share, besides the contract."""

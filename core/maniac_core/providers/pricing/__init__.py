"""The cost of a request: its upper bound before, its price after."""

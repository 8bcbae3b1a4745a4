"""Pure functions between the public JSON and the messages of the contract, one module per resource."""

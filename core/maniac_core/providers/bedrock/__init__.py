"""Amazon Bedrock: any model by its Converse API."""

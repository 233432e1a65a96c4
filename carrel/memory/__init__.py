"""What was said, kept: conversations that are remembered cheaply and forgotten whole, and documents in adapters."""

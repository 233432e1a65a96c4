"""Documents in parameters: trained into LoRA adapters, kept with their library, and merged for a question."""

"""A tiny Llama-shaped model that looks things up in its context, to measure KV policies and sparse attention on."""

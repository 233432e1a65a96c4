"""Parametric memory: documents trained into LoRA adapters, kept with the library and merged at question time."""

"""Selected passages made smaller without being rewritten."""

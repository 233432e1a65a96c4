"""Indexes derived from the store: lexical (FTS5) and dense (FAISS)."""

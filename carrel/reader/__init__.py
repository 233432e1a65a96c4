"""The reader: one small model behind reranking, pruning, answering and verification."""

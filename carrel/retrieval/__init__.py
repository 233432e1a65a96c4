"""From files to passages: loading, chunking, the store, its derived indexes, retrieval and selection."""

"""The command line: `carrel add`, `carrel ask` and the rest."""

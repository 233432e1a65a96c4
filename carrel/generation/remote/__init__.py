"""Generators behind a server: the protocol, its failures, and waiting that can be stopped."""

"""Stored examples, and inputs that are read live."""

"""Data to figure, no queries."""

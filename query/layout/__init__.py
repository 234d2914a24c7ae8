"""Stored layouts in the plane, and their export."""

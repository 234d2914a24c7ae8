"""The nearest polytopes of an example, of many, and what a search goes through."""

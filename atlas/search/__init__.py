"""Hamming search over packed codes, and the index files beside the database. The only folder that imports faiss."""

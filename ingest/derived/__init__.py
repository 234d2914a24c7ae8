"""What is computed from an atlas and stored in it: clusterings, indexes, layouts, neighbours."""

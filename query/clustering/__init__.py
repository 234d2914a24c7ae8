"""Stored clusterings: their clusters, members, names, and where new points would lie."""

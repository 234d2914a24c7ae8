"""The polytope that a point lies in: what bounds it, where rays leave it, what a segment crosses (SCIENCE 5, 14)."""

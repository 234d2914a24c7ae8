"""Atlases that are held open for others to ask: which questions there are, within which limits, in which process."""

"""Questions about pairs of examples: the gates that differ, the density of boundaries between them."""

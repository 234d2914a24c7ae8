"""Single units: what activates one, and which of a site are about how many things."""

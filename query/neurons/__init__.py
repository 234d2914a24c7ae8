"""What activates single units."""

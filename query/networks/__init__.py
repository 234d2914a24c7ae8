"""Networks beside each other."""

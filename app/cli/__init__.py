"""The `polytope` command."""

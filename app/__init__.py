"""What people touch: the `polytope` command and the explorer."""

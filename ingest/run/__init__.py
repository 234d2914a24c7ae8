"""A run from end to end: plan, shards, publishing."""

"""Sources of texts and images."""

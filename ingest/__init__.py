"""From a network and data to an atlas: adapters, datasets, sampling, and the resumable pipeline."""

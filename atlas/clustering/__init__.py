"""HDBSCAN over codes and activations, exact or from neighbours. The only folder that imports hdbscan."""

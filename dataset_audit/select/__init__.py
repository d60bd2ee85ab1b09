"""From scores to kept examples; pure NumPy."""

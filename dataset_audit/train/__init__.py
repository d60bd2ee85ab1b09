"""Models, recipes, batches and the one training loop."""

"""Name that dataset: how well a classifier tells the sources apart, and what gives them away."""

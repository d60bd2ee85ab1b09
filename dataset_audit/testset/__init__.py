"""Two test sets for the same thing: gaps, lines, order, near-duplicates, and how long a test set lasts."""

"""What is remembered of each presentation, and the scores made of it."""

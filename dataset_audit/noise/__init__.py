"""Which labels are probably wrong: suspicion from scores, a threshold, label quality, the test against the truth."""

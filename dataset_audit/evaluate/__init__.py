"""Does a pruned set train as well: arms trained alike, compared with random subsets and with training for less time."""

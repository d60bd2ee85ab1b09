"""Train on each set, test on each set: what a data set is worth outside itself."""

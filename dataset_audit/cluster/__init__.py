"""Other machines: the functions of `select.shards` run there, one task per file; what they return merges here."""

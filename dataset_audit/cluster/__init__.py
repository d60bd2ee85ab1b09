"""Other machines: functions of `select.shards` run there, a task per file, or the command itself once more."""

"""One module per command: a frozen Config, run(config, progress) -> Report."""

"""The command line: options, streams, exit codes."""


def main() -> None:
    """Run ``audit``."""

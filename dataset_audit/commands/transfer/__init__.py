"""``audit transfer``: train on each set, test on each set, and say what the sets are worth to each other."""

from dataset_audit.commands.transfer.config import Config
from dataset_audit.commands.transfer.story import run

__all__ = ["Config", "run"]

"""``audit evaluate``: train on what is kept and on random subsets of the same size, and say whether it pays."""

from dataset_audit.commands.evaluate.config import Config
from dataset_audit.commands.evaluate.story import run

__all__ = ["Config", "run"]

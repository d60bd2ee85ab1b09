"""``audit forgetting``: train with a recorder watching, and write one row of scores per example."""

from dataset_audit.commands.forgetting.config import Config
from dataset_audit.commands.forgetting.story import run

__all__ = ["Config", "run"]

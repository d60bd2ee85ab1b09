"""``audit prune``: from scores to a manifest of exactly as many examples as asked for."""

from dataset_audit.commands.prune.config import Config
from dataset_audit.commands.prune.story import run

__all__ = ["Config", "run"]

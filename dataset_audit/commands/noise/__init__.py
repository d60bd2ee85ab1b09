"""``audit noise``: rank labels that are probably wrong, flag them by a threshold, measure that against the truth."""

from dataset_audit.commands.noise.config import Config
from dataset_audit.commands.noise.story import run

__all__ = ["Config", "run"]

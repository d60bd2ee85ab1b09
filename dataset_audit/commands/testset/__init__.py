"""``audit testset``: two test sets for the same thing: is the new one harder, is the old one worn out?"""

from dataset_audit.commands.testset.config import Config
from dataset_audit.commands.testset.story import run

__all__ = ["Config", "run"]

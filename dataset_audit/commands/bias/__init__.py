"""``audit bias``: can the source of an image be named, by what, and what is left once artefacts are gone?"""

from dataset_audit.commands.bias.config import Config
from dataset_audit.commands.bias.story import run

__all__ = ["Config", "run"]

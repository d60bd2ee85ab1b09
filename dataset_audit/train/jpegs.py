"""JPEG files decoded to a GPU: by torchcodec where it is installed, else torchvision, else Pillow on the CPU.

What comes out is named beside the pixels, because a GPU's decoder differs from the CPU's by a level or two: pixels of
two decoders must never be compared, nor one be kept in place of the other. A GPU's decoder fails a whole list for one
bad file, so such a list is decoded by the CPU, which says which file it was.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata

import torch
from torch import Tensor

from dataset_audit.images.decode import Limits, decode

Decoder = Callable[[Sequence[bytes], torch.device], list[Tensor]]


def decode_jpegs(
    data: Sequence[bytes], device: torch.device, *, decoders: Sequence[str] = ()
) -> tuple[list[Tensor], str]:
    """Return each image as uint8[H, W, 3] on ``device``, and the decoder of all of them with its version.

    Args:
        data: Encoded JPEG files.
        device: Where the pixels shall be.
        decoders: Names of DECODERS to try in order; all of them for a GPU, Pillow alone for a CPU, if not given.

    Raises:
        BadImage: A file that Pillow cannot decode either.
    """
    names = list(decoders) or (list(DECODERS) if device.type == "cuda" else ["pillow"])
    for name in names:
        try:
            pixels = DECODERS[name](data, device)
        except (ImportError, RuntimeError, ValueError):
            if name == names[-1]:
                raise
            continue
        return pixels, f"{name} {metadata.version(name)}"
    raise ValueError("no decoder was named")


def _torchcodec(data: Sequence[bytes], device: torch.device) -> list[Tensor]:
    found = importlib.import_module("torchcodec.decoders").decode_jpeg(list(data), mode="RGB", device=device)
    return [image.permute(1, 2, 0) for image in found]


def _torchvision(data: Sequence[bytes], device: torch.device) -> list[Tensor]:
    encoded = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in data]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchcodec is asked first
        decode_jpeg = importlib.import_module("torchvision.io").decode_jpeg
        found = decode_jpeg(encoded, mode="RGB", device=device)
    return [image.permute(1, 2, 0) for image in found]


def _pillow(data: Sequence[bytes], device: torch.device) -> list[Tensor]:
    return [torch.from_numpy(decode(each, Limits(), "RGB")).to(device) for each in data]


DECODERS: dict[str, Decoder] = {"torchcodec": _torchcodec, "torchvision": _torchvision, "pillow": _pillow}

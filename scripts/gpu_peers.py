"""Parts of scripts/gpu_speed: what others do on the same GPU, decoders and the original training loop."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import torch
from gpu_common import EPOCHS, Setting, model_for, synchronise, timed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dataset_audit import seeds
from dataset_audit.images.decode import Limits, decode
from dataset_audit.train.jpegs import DECODERS, decode_jpegs
from dataset_audit.train.models import build


def photographs(count: int, size: tuple[int, int]) -> list[bytes]:
    """Return JPEG files of smooth noise with grain, quality 90: a camera's entropy, nobody's picture."""
    from PIL import Image  # noqa: PLC0415 - this part alone

    found = []
    for number in range(count):
        rng = seeds.rng(0, "photograph", number)
        rough = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 6, (size[1], size[0], 3))
        out = io.BytesIO()
        Image.fromarray((np.asarray(rough) + grain).clip(0, 255).astype(np.uint8)).save(
            out, "jpeg", quality=90
        )
        found.append(out.getvalue())
    return found


def decoding(setting: Setting) -> dict[str, object]:
    """Return images/s to pixels on the device by each decoder, and how far their pixels differ from Pillow's."""
    found: dict[str, object] = {}
    for size in ((500, 375), (2000, 1500)) if not setting.tiny else ((40, 30),):
        data = photographs(setting.pick(512 if size[0] < 1000 else 64, 4), size)
        for name in DECODERS:
            if name != "pillow":
                found[f"{size[0]}x{size[1]}, {name}"] = _by_lists(setting, data, name)
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            seconds = timed(lambda data=data, pool=pool: list(pool.map(_plainly, data)), setting.device, 3)  # type: ignore[misc]  # mypy infers no lambda with defaults
        found[f"{size[0]}x{size[1]}, Pillow on {cores} cores"] = {"images_per_s": len(data) / seconds}
    return found


def _plainly(data: bytes) -> NDArray[np.uint8]:
    return decode(data, Limits(), "RGB")


def _by_lists(setting: Setting, data: list[bytes], name: str) -> dict[str, object]:
    try:
        pixels, version = decode_jpegs(data[:4], setting.device, decoders=[name])
    except (ImportError, RuntimeError, ValueError) as error:
        return {"not_here": str(error).partition("\n")[0]}
    lists = [data[at : at + 64] for at in range(0, len(data), 64)]
    seconds = timed(
        lambda: [decode_jpegs(one, setting.device, decoders=[name]) for one in lists], setting.device, 3
    )
    plain = decode_jpegs(data[:4], setting.device, decoders=["pillow"])[0]
    apart = [(a.int() - b.int()).abs() for a, b in zip(plain, pixels, strict=True)]
    return {
        "decoder": version,
        "images_per_s": len(data) / seconds,
        "levels_apart_max": max(int(one.max()) for one in apart),
        "values_apart": float(torch.cat([one.flatten() for one in apart]).gt(0).float().mean()),
    }


class ListOfPictures:
    """The original's data set: every image through PIL, transformed one by one, on the host."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision import transforms  # noqa: PLC0415 - the peer's

        size = images.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(size, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),
            ]
        )
        self.images, self.labels = images.cpu().numpy(), labels.cpu().tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image  # noqa: PLC0415

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def original(setting: Setting) -> dict[str, object]:
    """Return seconds of an epoch the way Toneva et al.'s code runs it, statistics example by example."""
    held, model = setting.images(), model_for(setting, "resnet18")
    task = held.task(setting)
    data, network = (
        ListOfPictures(held.images, held.labels),
        build(model, classes=task.classes, channels=3, image_size=max(task.images.size)).to(setting.device),
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss(reduction="none").to(setting.device)
    kept: dict[int, list[tuple[float, int, float]]] = {}
    order, batch = seeds.rng(1, "order").permutation(len(held.labels)), setting.pick(128, 16)
    network.train()
    synchronise(setting.device)
    began = perf_counter()
    for at in range(0, len(order), batch):
        setting.clock.advance(at)
        indices = order[at : at + batch]
        pairs = [data[int(index)] for index in indices]
        inputs = torch.stack([image for image, _ in pairs]).to(setting.device)
        labels = torch.tensor([label for _, label in pairs]).to(setting.device)
        outputs = network(inputs)
        losses = criterion(outputs, labels)
        predicted = outputs.argmax(1)
        for row, index in enumerate(indices):
            label = int(labels[row].item())
            correct = int((predicted[row] == label).item())
            ordered = torch.sort(functional.softmax(outputs[row], 0)).values
            margin = (outputs[row][label] - ordered[-2 if correct else -1]).item()
            kept.setdefault(int(index), []).append((losses[row].item(), correct, margin))
        optimiser.zero_grad()
        losses.mean().backward()
        optimiser.step()
    synchronise(setting.device)
    seconds = perf_counter() - began
    return {
        "epoch_s": seconds,
        "run_of_200_s": EPOCHS * seconds,
        "step_ms": 1e3 * seconds / -(-len(order) // batch),
    }

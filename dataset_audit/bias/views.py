"""VIEWS: the same pictures with one thing taken away each, made from one decode per picture.

A view is what a control shows the probes. What it takes away cannot carry the answer any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.stock import Stock
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.decode import Limits, allowed_peak, decode
from dataset_audit.images.duplicates import pixel_hash
from dataset_audit.images.encode import encode_jpeg, encode_like
from dataset_audit.images.facts import FACTS, Facts
from dataset_audit.images.parallel import for_each
from dataset_audit.images.scan import ByteBudget
from dataset_audit.probes import features
from dataset_audit.probes.registry import SIDE, View
from dataset_audit.progress import Progress
from dataset_audit.train.batches import fit_to
from dataset_audit.train.device import one_thread_each

ENOUGH: Final = (
    768  # a JPEG is decoded at a fraction of its size as long as its shorter side keeps this many pixels
)
QUALITY: Final = 75  # of the common encoding
REDUCTION: Final = 3  # by which resizing must shrink to hide an encoder or another resize
DEEP_REDUCTION: Final = 6  # and to hide that a picture was enlarged twofold before
_CENTRE: Final = 0.5**0.5  # of each side: half the area
_TILE: Final = 1024
_GREY, _CONTRAST = 128, 50  # mean and standard deviation that the photometric view gives every picture

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the views need to know of all pictures together.

    Attributes:
        recode: Pixels of a side to which every picture is reduced before the common encoding.
        together: The same where everything is taken away at once.
        seed: Of the content-free pictures.
        network: Pixels of a side that the network sees.
    """

    recode: int
    together: int
    seed: int
    network: int = SIDE


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One decoded picture uint8[H, W, 3] with the facts of its file."""

    pixels: Pixels
    facts: Facts
    uid: str
    setting: Setting


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of view.

    Attributes:
        about: What is taken away, or kept.
        make: From a picture to uint8[H', W', 3].
        traces: Whether how it was made still shows at full size.
        network: Whether a network is trained on it by default, so that copies of its size are kept.
    """

    about: str
    make: Callable[[Picture], Pixels]
    traces: bool = True
    network: bool = False


def _centre(picture: Picture) -> Pixels:
    top, left, tall, wide = _middle(picture.pixels)
    return picture.pixels[top : top + tall, left : left + wide]


def _middle(pixels: Pixels) -> tuple[int, int, int, int]:
    height, width = pixels.shape[:2]
    tall, wide = max(1, round(height * _CENTRE)), max(1, round(width * _CENTRE))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _border(picture: Picture) -> Pixels:
    top, left, tall, wide = _middle(picture.pixels)
    framed = picture.pixels.copy()
    framed[top : top + tall, left : left + wide] = _GREY
    return framed


def levelled(pixels: Pixels) -> Pixels:
    """Return uint8[H, W, 3] with the mean over all values moved to 128 and their standard deviation to 50.

    One affine map for all channels, so that colours keep their relation; flat pictures only move. Mean and deviation
    are those of every n-th pixel, 128 or more to a side: a shift of all pixels is removed all the same.
    """
    step = max(1, min(pixels.shape[:2]) // 128)
    some = pixels[::step, ::step].astype(np.float32)
    mean, std = float(some.mean()), float(some.std())
    mapped = (np.arange(256) - mean) * (_CONTRAST / std if std >= 1 else 1.0) + _GREY
    table = np.clip(np.rint(mapped), 0, 255).astype(np.uint8).tobytes()
    # bytes.translate is twice as fast as indexing
    return np.frombuffer(bytearray(pixels.tobytes().translate(table)), np.uint8).reshape(pixels.shape)


def _recoded(pixels: Pixels, side: int) -> Pixels:
    return decode(encode_jpeg(fit_to(pixels, (side, side)), QUALITY), Limits())


def _together(picture: Picture) -> Pixels:
    return _recoded(levelled(_centre(picture)), picture.setting.together)


@lru_cache(maxsize=2)
def _noise_tile(seed: int) -> Pixels:
    """Return noise whose spectrum falls as 1/f, as of photographs: uint8[2048, 2048, 3], a tile four times."""
    rng = seeds.rng(seed, "noise-tile")
    radius = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :])
    radius[0, 0] = np.inf
    planes = []
    for _ in range(4):
        spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) / radius
        plane = np.fft.irfft2(spectrum, s=(_TILE, _TILE))
        planes.append(plane / plane.std())
    # mostly shared by the three channels, as in photographs
    tile = np.stack([0.9 * planes[0] + 0.4 * own for own in planes[1:]], axis=2)
    drawn = np.clip(np.rint(tile * _CONTRAST + _GREY), 0, 255).astype(np.uint8)
    return np.tile(drawn, (2, 2, 1))  # it wraps round, so that any window is one slice


def _noise(picture: Picture) -> Pixels:
    """Return a content-free picture of this one's size, through this one's encoder."""
    tile = _noise_tile(picture.setting.seed)
    down, right = seeds.rng(picture.setting.seed, "noise", picture.uid).integers(0, _TILE, 2)
    drawn = np.empty((picture.facts.height, picture.facts.width, 3), np.uint8)
    # square by square, each from the same place of the tile
    for top in range(0, drawn.shape[0], _TILE):
        for left in range(0, drawn.shape[1], _TILE):
            square = drawn[top : top + _TILE, left : left + _TILE]
            square[:] = tile[down : down + square.shape[0], right : right + square.shape[1]]
    wide = Limits(
        max_pixels=2**40, max_file_bytes=2**40
    )  # noise takes more bytes than the picture it stands for
    return decode(encode_like(drawn, picture.facts), wide, at_least=ENOUGH)


VIEWS: Final[dict[str, Kind]] = {
    "raw": Kind(about="as they are", make=lambda picture: picture.pixels, network=True),
    "noise": Kind(
        about="1/f noise of each picture's size, through each picture's encoder", make=_noise, network=True
    ),
    "recode": Kind(
        about="reduced to one size, encoded as JPEG 75",
        make=lambda picture: _recoded(picture.pixels, picture.setting.recode),
    ),
    "photometric": Kind(about="one mean and contrast for all", make=lambda picture: levelled(picture.pixels)),
    "centre": Kind(about="the central half of the area", make=_centre),
    "border": Kind(about="the other half, the centre filled with grey", make=_border, traces=False),
    "together": Kind(
        about="centre, one mean and contrast, reduced twice as far, JPEG 75", make=_together, network=True
    ),
}


def setting(stock: Stock, seed: int) -> Setting:
    """Return the common sizes: such that nearly all pictures of every source shrink by the stated factors.

    The shorter side of the 5 % smallest of each source decides, so that one tiny picture does not; at least 16 pixels
    are left.
    """
    smallest = []
    for number in range(len(stock.sources)):
        sides = [
            min(facts.width, facts.height)
            for facts, source in zip(stock.facts, stock.source, strict=True)
            if source == number and facts is not None
        ]
        smallest.append(float(np.quantile(sides, 0.05)) if sides else SIDE)
    least = min(smallest)
    return Setting(
        recode=int(np.clip(least / REDUCTION, 16, 2 * SIDE)),
        together=int(np.clip(least * _CENTRE / DEEP_REDUCTION, 16, SIDE // 2)),
        seed=seed,
    )


def reductions(stock: Stock, side: int, part: float = 1.0) -> NDArray[np.float64]:
    """Return float64[N]: by how much each picture shrinks when ``part`` of its shorter side becomes ``side`` pixels."""
    return np.array(
        [np.nan if facts is None else min(facts.width, facts.height) * part / side for facts in stock.facts]
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """All views of all pictures: by name of view, and what identifies their content.

    Attributes:
        views: For each name of VIEWS that was asked for.
        hashes: Of the decoded pixels, "" where there are none.
        grey: float32[N, 32, 32], small grey copies for the search of duplicates.
    """

    views: dict[str, View]
    hashes: list[str]
    grey: NDArray[np.float32]

    def only(self, rows: NDArray[np.int64]) -> Seen:
        """Return some of the pictures."""
        return Seen(
            views={name: view.only(rows) for name, view in self.views.items()},
            hashes=[self.hashes[row] for row in rows.tolist()],
            grey=self.grey[rows],
        )


def look(
    stock: Stock, names: Sequence[str], setting: Setting, *, workers: int, memory: int, progress: Progress
) -> Seen:
    """Decode each picture once and make the views of it; what cannot be decoded gets its status in ``stock``.

    Args:
        stock: With its header facts.
        names: Of VIEWS.
        setting: Common sizes.
        workers: Threads.
        memory: Bytes that decoding may take at one time.
        progress: Told the number of pictures done.
    """
    total = len(stock)
    small = {name: np.zeros((total, SIDE, SIDE, 3), np.uint8) for name in names}
    side = setting.network
    other = [name for name in names if VIEWS[name].network and side != SIDE]
    large = {name: np.zeros((total, side, side, 3), np.uint8) for name in other}
    traces = {name: np.zeros((total, sum(features.TRACES.values())), np.float32) for name in names}
    facts = np.zeros((total, len(FACTS)), np.float32)
    hashes, grey = [""] * total, np.zeros((total, features.THUMBNAIL, features.THUMBNAIL), np.float32)
    budget = ByteBudget(memory)
    for seed in {setting.seed} if "noise" in names else ():
        _noise_tile(seed)  # once, before threads ask for it together

    def one(row: int) -> None:
        known = stock.facts[row]
        if known is None:
            return
        facts[row] = known.vector()
        try:
            with _decoded(stock, row, budget) as pixels:
                picture = Picture(pixels=pixels, facts=known, uid=stock.uid[row] or "", setting=setting)
                hashes[row] = pixel_hash(pixels)
                copy = features.area(fit_to(pixels, (SIDE, SIDE))[None], features.THUMBNAIL)
                grey[row] = features.luma(copy)[0]
                for name in names:
                    shown = VIEWS[name].make(picture)
                    small[name][row] = fit_to(shown, (SIDE, SIDE))
                    if name in large:
                        large[name][row] = fit_to(shown, (side, side))
                    if VIEWS[name].traces:
                        traces[name][row] = features.traces(shown)
        except BadImage as bad:
            stock.status[row], stock.error[row] = bad.status, bad.reason

    progress.start("decode and look", total, "images")
    with one_thread_each():
        for_each(total, one, workers=workers, progress=progress)
    progress.finish()
    views = {
        name: View(facts=facts, pixels=small[name], traces=traces[name], large=large.get(name))
        for name in names
    }
    return Seen(views=views, hashes=hashes, grey=grey)


@contextmanager
def _decoded(stock: Stock, row: int, budget: ByteBudget) -> Iterator[Pixels]:
    """Give uint8[H, W, 3]; its share of the memory is held until the views of it are made."""
    dataset, index = stock.sources[stock.source[row]].dataset, int(stock.index[row])
    if dataset.array is not None:
        yield _coloured(dataset.array[index])
        return
    data = dataset.encoded(index)
    with budget.taken(allowed_peak(data, dataset.limits)):
        yield _coloured(dataset.decoded(data, at_least=ENOUGH))


def _coloured(pixels: Pixels) -> Pixels:
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)

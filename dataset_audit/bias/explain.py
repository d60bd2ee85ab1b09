"""EXPLANATIONS: where in a picture a network saw what gives the source away, and whether such a map can be believed.

What is attributed is the margin, the logit of the predicted source less the largest other: a term common to all logits
changes the map of one logit and nothing else. Three checks go with every method:

- The pixels move by signs drawn at random, by so little that nobody sees it and the prediction stays: the map should
  stay too (Ghorbani, Abid & Zou 2019; random signs are the mildest of their perturbations).
- The last layer is drawn anew: the map should change, or it does not depend on what was learned (Adebayo et al. 2018).
- The picture's edges: a map no closer to itself than to them explains the picture (Adebayo et al. 2018). Shown, not
  judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dataset_audit import seeds
from dataset_audit.bias import attribution, likeness
from dataset_audit.bias.ablations import grey
from dataset_audit.bias.attribution import Attribution, Completeness, Subject
from dataset_audit.bias.likeness import Compared, Floats, Maps, Spread, Stability
from dataset_audit.probes.classify import Labels
from dataset_audit.probes.network import Trained
from dataset_audit.progress import Progress, Silent

JUDGED: Final = 2  # of 255: the perturbation a verdict is about
LEAST_SPEARMAN: Final = 0.5
LEAST_OVERLAP: Final = 0.2  # beyond chance
LEAST_FALL: Final = 0.1  # how much less alike a random last layer must leave a map than a perturbation does
HEADS: Final = 5
_BLOCK: Final = 8  # pictures whose draws are held at a time


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to explain.

    Attributes:
        attribute: (subject, pictures float32[B, 3, S, S], classes int64[B]) -> maps of B pictures.
        about: What the map is.
        on_layer: Whether it needs a layer on a grid.
    """

    attribute: Callable[[Subject, Tensor, Tensor], Attribution]
    about: str
    on_layer: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a method can be trusted on this network, and the three numbers that decide.

    Attributes:
        trusted: None of the rules is broken.
        why: One sentence for people.
        spearman: Median under +-2/255; at least 0.5.
        overlap: Median of the top cells in common beyond chance under +-2/255; at least 0.2.
        redrawn: Median Spearman with maps of a random last layer; below ``spearman`` - 0.1.
    """

    trusted: bool
    why: str
    spearman: float
    overlap: float
    redrawn: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What one method says of M pictures.

    Attributes:
        about: What the map is.
        maps: float32[M, S, S], 0 or more, each scaled to a mean of one (all zero where the map is blank); for drawing:
            Grad-CAM's are interpolated, its measures are taken on its own grid.
        cells: Cells of a map as compared.
        top: How many of them are the top.
        blank: Share of the pictures whose map is the same everywhere and says nothing; they are not compared.
        under: By size of the perturbation in 255ths.
        redrawn: Spearman of |maps| with those of a random last layer, each picture's median of five.
        redrawn_signed: The same of signed maps; NaN pictures left out likewise.
        edges: Spearman of |maps| with the length of the picture's Sobel gradient, averaged over each cell.
        verdict: By the rules above.
    """

    about: str
    maps: Maps
    cells: int
    top: int
    blank: float
    under: dict[int, Stability]
    redrawn: Spread
    redrawn_signed: Spread
    edges: Spread
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanations:
    """Explanations of one network.

    Attributes:
        rows: int64[M], the pictures.
        predicted: int64[M], the class explained.
        accuracy: Share of the rows whose prediction is their label.
        methods: By name, in the order of EXPLANATIONS.
        skipped: Why a method has no maps, by name.
        layer: Grad-CAM's, by its name in the network; empty when skipped.
        completeness: Of integrated gradients; None when they were not computed.
        baseline: What integrated gradients start from.
        draws: Perturbations of each size for each picture.
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.int64]
    accuracy: float
    methods: dict[str, Explained]
    skipped: dict[str, str]
    layer: str
    completeness: Completeness | None
    baseline: str
    draws: int


EXPLANATIONS: Final[dict[str, Method]] = {
    "saliency": Method(
        attribute=attribution.saliency,
        about="gradient of the margin per pixel value, absolute, summed over colours (Simonyan et al. 2014)",
    ),
    "integrated-gradients": Method(
        attribute=attribution.integrated_gradients,
        about="gradient averaged on the way from the mean colour, times the way (Sundararajan et al. 2017)",
    ),
    "grad-cam": Method(
        attribute=attribution.grad_cam,
        about="activations of a late layer weighted by their mean gradient (Selvaraju et al. 2017)",
        on_layer=True,
    ),
}


def available() -> None:
    """Find out before work begins whether explanations can be computed.

    Raises:
        EnvironmentProblem: captum is not installed.
    """
    attribution.available()


def explain(  # noqa: PLR0913 - keywords with stated defaults
    trained: Trained,
    pixels: NDArray[np.uint8],
    labels: Labels,
    rows: NDArray[np.int64],
    *,
    seed: int,
    draws: int = 10,
    epsilons: Sequence[int] = (1, 2, 4, 8),
    progress: Progress | None = None,
) -> Explanations:
    """Explain what a trained network predicts for some pictures by every method, and test the explanations.

    Perturbations are in pixel space before normalisation, +-epsilon per value, clipped to what a pixel can be, not
    rounded to whole levels. Signs depend on the seed and the row alone, and are the same for all sizes.

    Args:
        trained: The network as trained; its mode and weights are left as they were.
        pixels: uint8[N, S, S, 3].
        labels: int64[N].
        rows: int64[M] of those to explain; 50 or more test pictures drawn evenly from the sources make a verdict.
        seed: Of perturbations and random last layers.
        draws: Perturbations of each size for each picture.
        epsilons: Sizes in 255ths; 2 must be among them, verdicts are about it.
        progress: Told the pictures done.

    Raises:
        EnvironmentProblem: captum is not installed.
        ValueError: No rows, no draws, pixels of another shape or type, or no perturbation by 2.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}, not uint8[N, S, S, C]")
    if not len(rows) or draws < 1 or JUDGED not in epsilons:
        raise ValueError(
            f"{len(rows)} rows, {draws} draws, sizes {list(epsilons)}: verdicts are about {JUDGED}"
        )
    available()
    network = trained.state.network
    training = network.training
    network.eval()
    try:
        case = _case(trained, pixels[rows], rows, seed, draws, tuple(epsilons))
        return _explain(case, labels[rows], progress or Silent())
    finally:
        network.train(training)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """Pictures uint8[M, S, S, 3] and float32[M, 3, S, S] in shares of 255, what is predicted, and what is drawn."""

    subject: Subject
    pixels: NDArray[np.uint8]
    images: Tensor
    predicted: Tensor
    rows: NDArray[np.int64]
    seed: int
    draws: int
    epsilons: tuple[int, ...]
    no_layer: str

    def blocks(self) -> list[slice]:
        return [slice(at, at + _BLOCK) for at in range(0, len(self.rows), _BLOCK)]

    def signs(self, part: slice) -> Tensor:
        """Return float32[b, draws, 3, S, S] of +-1."""
        shape = (self.draws, *self.pixels.shape[1:])
        drawn = [
            seeds.rng(self.seed, "explain", "signs", int(row)).integers(0, 2, shape, dtype=np.int8)
            for row in self.rows[part]
        ]
        signs = torch.from_numpy(np.stack(drawn)).to(self.images.device)
        return (2.0 * signs - 1.0).permute(0, 1, 4, 2, 3)


def _case(
    trained: Trained,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    seed: int,
    draws: int,
    epsilons: tuple[int, ...],
) -> _Case:
    task = trained.task
    subject = Subject(network=trained.state.network, mean=task.mean, std=task.std)
    images = torch.from_numpy(pixels).to(task.device).permute(0, 3, 1, 2).float() / 255
    layer, no_layer = attribution.cam_layer(subject, images[:2])
    return _Case(
        subject=replace(subject, layer=layer),
        pixels=pixels,
        images=images,
        predicted=attribution.predicted(subject, images),
        rows=rows,
        seed=seed,
        draws=draws,
        epsilons=epsilons,
        no_layer=no_layer,
    )


def _explain(case: _Case, labels: Labels, progress: Progress) -> Explanations:
    methods = {name: one for name, one in EXPLANATIONS.items() if case.subject.layer or not one.on_layer}
    originals = {
        name: one.attribute(case.subject, case.images, case.predicted) for name, one in methods.items()
    }
    compared = _under_signs(case, methods, originals, progress)
    heads = _under_heads(case, methods, originals)
    complete = None
    drawn = {name: original.magnitude for name, original in originals.items()}
    if "integrated-gradients" in methods:
        complete = attribution.complete(case.subject, case.images, case.predicted)
        drawn["integrated-gradients"] = complete.maps.magnitude
    outlines = likeness.edges(grey(case.pixels))
    side = case.pixels.shape[1]
    found: dict[str, Explained] = {}
    for name, one in methods.items():
        maps = originals[name].magnitude
        under = {size: each.stability(maps[0].size) for size, each in compared[name].items()}
        redrawn = Spread.of(heads[name][0])
        found[name] = Explained(
            about=one.about,
            maps=_to_draw(drawn[name], side),
            cells=maps[0].size,
            top=likeness.top_count(maps[0].size),
            blank=float(np.mean([not likeness.varies(each) for each in maps])),
            under=under,
            redrawn=redrawn,
            redrawn_signed=Spread.of(heads[name][1]),
            edges=Spread.of(_along_edges(maps, outlines)),
            verdict=judge(
                spearman=under[JUDGED].spearman.median,
                overlap=under[JUDGED].beyond_chance.median,
                redrawn=redrawn.median,
            ),
        )
    predicted = case.predicted.cpu().numpy()
    return Explanations(
        rows=case.rows,
        predicted=predicted,
        accuracy=float((predicted == labels).mean()),
        methods=found,
        skipped={name: case.no_layer for name in EXPLANATIONS if name not in methods},
        layer=case.subject.layer,
        completeness=complete,
        baseline="the mean colour of the training pictures",
        draws=case.draws,
    )


def judge(*, spearman: float, overlap: float, redrawn: float) -> Verdict:
    """Return whether a method can be trusted; a number that could not be measured is no reason to trust.

    Args:
        spearman: Median rank correlation under +-2/255.
        overlap: Median of the top cells in common beyond chance under +-2/255.
        redrawn: Median rank correlation with maps of a random last layer.
    """
    broken = []
    if not spearman >= LEAST_SPEARMAN:
        broken.append("its order changes under a perturbation nobody sees")
    if not overlap >= LEAST_OVERLAP:
        broken.append("its highest cells change under a perturbation nobody sees")
    if not redrawn < spearman - LEAST_FALL:
        broken.append("it hardly depends on what the last layer learned")
    numbers = (
        f"Spearman {spearman:.2f} and overlap beyond chance {overlap:.2f} under ±{JUDGED}/255,"
        f" Spearman {redrawn:.2f} with a random last layer"
    )
    said = f"not to be trusted: {'; '.join(broken)}" if broken else "no reason found to distrust it"
    return Verdict(
        trusted=not broken, why=f"{said} ({numbers})", spearman=spearman, overlap=overlap, redrawn=redrawn
    )


def _under_signs(
    case: _Case, methods: dict[str, Method], originals: dict[str, Attribution], progress: Progress
) -> dict[str, dict[int, Compared]]:
    """Perturb every picture; return what was measured by method and size."""
    shape = (len(case.rows), case.draws)
    found = {name: {size: Compared.start(*shape) for size in case.epsilons} for name in methods}
    progress.start("explain", len(case.rows), "pictures")
    for part in case.blocks():
        signs, images = case.signs(part), case.images[part, None]
        classes = case.predicted[part].repeat_interleave(case.draws)
        for size in case.epsilons:
            moved = (images + signs * (size / 255)).clamp(0, 1).flatten(0, 1)
            stays = attribution.predicted(case.subject, moved) == classes
            if not stays.any():
                continue
            kept = stays.reshape(-1, case.draws).cpu().numpy()
            for name, one in methods.items():
                maps = one.attribute(case.subject, moved[stays], classes[stays]).magnitude
                found[name][size].add(part.start, kept, originals[name].magnitude[part], maps)
        progress.advance(min(part.stop, len(case.rows)))
    progress.finish()
    return found


def _under_heads(
    case: _Case, methods: dict[str, Method], originals: dict[str, Attribution]
) -> dict[str, tuple[Floats, Floats]]:
    """Return float64[M] by method: median Spearman with random last layers of |maps|, and of signed maps."""
    found = {name: np.full((2, len(case.rows), HEADS), np.nan) for name in methods}
    for draw in range(HEADS):
        subject = attribution.redrawn(case.subject, case.images[:1], case.seed, draw)
        for name, one in methods.items():
            other, original = one.attribute(subject, case.images, case.predicted), originals[name]
            pairs = ((original.magnitude, other.magnitude), (original.signed, other.signed))
            for kind, (before, after) in enumerate(pairs):
                found[name][kind, :, draw] = [
                    likeness.rank_correlation(*each) for each in zip(before, after, strict=True)
                ]
    return {
        name: (likeness.medians(magnitude), likeness.medians(signed))
        for name, (magnitude, signed) in found.items()
    }


def _along_edges(maps: Maps, outlines: Floats) -> Floats:
    grid = (maps.shape[1], maps.shape[2])
    onto = functional.adaptive_avg_pool2d(torch.from_numpy(outlines)[:, None], grid)[:, 0].numpy()
    return np.array([likeness.rank_correlation(*each) for each in zip(maps, onto, strict=True)])


def _to_draw(maps: Maps, side: int) -> Maps:
    """Return float32[M, side, side], each with a mean of one unless it is zero everywhere."""
    wide = functional.interpolate(
        torch.from_numpy(maps)[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0].numpy()
    mean = wide.mean((1, 2), keepdims=True, dtype=np.float64)
    drawn: Maps = np.asarray(wide / np.where(mean > 0, mean, 1), np.float32)
    return drawn

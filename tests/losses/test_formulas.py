"""Every loss against its formula, values and gradients: calculated from the paper, without shared code."""

from collections.abc import Callable
from math import exp, inf, log
from typing import Any

import pytest
import torch
from loss_examples import LOSSES, STUDENT, TEACHER, batch, built, outputs
from torch import Tensor
from torch.nn import functional

from kd_lightning.losses import LogitLoss, Loss
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

Formula = Callable[[Any, Outputs, Outputs], Tensor]


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    powers = (logits / temperature).exp()
    return powers / powers.sum(1, keepdim=True)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return (teacher * (teacher / student).log()).sum(1)


def z_scores(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True).div(logits.shape[1] - 1).sqrt() + 1e-7)


def labels_of(logits: Tensor) -> Tensor:
    """Return the labels as probabilities."""
    count, classes = logits.shape
    return functional.one_hot(torch.arange(count) % classes, classes).to(logits.dtype)


def without_label(logits: Tensor) -> Tensor:
    return logits[labels_of(logits) == 0].view(len(logits), -1)


def of_labels(smoothing: float, shares: Tensor | None = None) -> Formula:
    def formula(_: Any, student: Outputs, teacher: Outputs) -> Tensor:
        given = labels_of(student.logits) if shares is None else shares
        smoothed = (1 - smoothing) * given + smoothing / given.shape[1]
        return -(smoothed * softmax(student.logits).log()).sum(1).mean()

    return formula


def of_logits(formula: Callable[[Tensor, Tensor], Tensor], standardize: bool = False) -> Formula:
    """Return the mean over the images of a formula of their logits."""

    def mean(_: Any, student: Outputs, teacher: Outputs) -> Tensor:
        logits = student.logits, teacher.logits
        return formula(*(map(z_scores, logits) if standardize else logits)).mean()

    return mean


def soft_targets(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda own, other: temperature**2 * divergence(softmax(own, temperature), softmax(other, temperature))


def dkd(temperature: float, alpha: float, beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    def formula(own: Tensor, other: Tensor) -> Tensor:
        p, q = ((softmax(given, temperature) * labels_of(given)).sum(1, keepdim=True) for given in (own, other))
        of_label = divergence(torch.cat([p, 1 - p], 1), torch.cat([q, 1 - q], 1))
        rest = divergence(*(softmax(without_label(given), temperature) for given in (own, other)))
        return temperature**2 * (alpha * of_label + beta * rest)

    return formula


def nkd(temperature: float, gamma: float) -> Callable[[Tensor, Tensor], Tensor]:
    def formula(own: Tensor, other: Tensor) -> Tensor:
        of_label = (labels_of(own) * softmax(other) * softmax(own).log()).sum(1)
        p, q = (softmax(without_label(given), temperature) for given in (own, other))
        return -of_label - gamma * temperature**2 * (q * p.log()).sum(1)

    return formula


def correlation(one: Tensor, other: Tensor) -> Tensor:
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (one, other))
    return (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()


def dist(temperature: float, beta: float, gamma: float) -> Callable[[Tensor, Tensor], Tensor]:
    def formula(own: Tensor, other: Tensor) -> Tensor:
        p, q = softmax(own, temperature), softmax(other, temperature)
        parts = beta * (1 - correlation(p, q)).mean() + gamma * (1 - correlation(p.T, q.T)).mean()
        return temperature**2 * parts

    return formula


def rld(temperature: float, alpha: float, beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    def formula(own: Tensor, other: Tensor) -> Tensor:
        parts = []
        for z, t, y in zip(own, other, labels_of(own).argmax(1), strict=True):
            sure, wanted = softmax(z[None], temperature)[:, y], softmax(t[None], temperature).max(1).values
            first = divergence(torch.stack([sure, 1 - sure], 1), torch.stack([wanted, 1 - wanted], 1))
            below = t < t[y]
            second = divergence(*(softmax(given[None, below], temperature) for given in (z, t)))
            parts.append(temperature**2 * (alpha * first + beta * second))
        return torch.cat(parts)

    return formula


def mlkd(temperatures: list[float], b: float, c: float, standardize: bool = False) -> Formula:
    def formula(_: Any, student: Outputs, teacher: Outputs) -> Tensor:
        logits = student.logits, teacher.logits
        total = torch.zeros((), dtype=torch.float64)
        for each in temperatures:
            first = soft_targets(each)(*(map(z_scores, logits) if standardize else logits)).mean()
            p, q = (softmax(given, each) for given in logits)
            images = torch.einsum("ic,jc->ij", p, p) - torch.einsum("ic,jc->ij", q, q)
            classes = torch.einsum("bi,bj->ij", p, p) - torch.einsum("bi,bj->ij", q, q)
            rows, columns = 64 / len(p), p.shape[1] / 100  # the factors are for 64 images of 100 classes
            total = total + first + b * rows * (images**2).sum() / len(p)
            total = total + c * (rows * columns) ** 2 * (classes**2).sum() / p.shape[1]
        return total

    return formula


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, factor: Tensor) -> Tensor:
        context.factor = factor
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return -context.factor * gradient, None


def ctkd(lowest: float, span: float, standardize: bool = False) -> Formula:
    def formula(loss: Any, student: Outputs, teacher: Outputs) -> Tensor:
        logits = map(z_scores, (student.logits, teacher.logits)) if standardize else (student.logits, teacher.logits)
        raw: Tensor = Reversed.apply(loss.raw, loss.reversal)
        temperature = lowest + span / (1 + (-raw).exp())
        own, other = (softmax(given / temperature) for given in logits)
        return temperature**2 * divergence(own, other).mean()

    return formula


def ttm(gamma: float, weighted: bool) -> Callable[[Tensor, Tensor], Tensor]:
    def formula(own: Tensor, other: Tensor) -> Tensor:
        powers = softmax(other) ** gamma
        sums = powers.sum(1, keepdim=True)
        return (sums[:, 0] if weighted else 1) * divergence(softmax(own), powers / sums)

    return formula


def hard_targets(own: Tensor, other: Tensor) -> Tensor:
    chosen = other == other.max(1, keepdim=True).values
    return -softmax(own)[chosen].log()


ON_LOGITS: dict[str, Formula] = {
    "labels": of_labels(0.0),
    "smoothed_labels": of_labels(0.1),
    "soft_targets": of_logits(soft_targets(3.0)),
    "soft_targets_standardized": of_logits(soft_targets(1.5), True),
    "hard_targets": of_logits(hard_targets),
    "logit_regression": of_logits(lambda own, other: (own - other) ** 2),
    "logit_regression_standardized": of_logits(lambda own, other: (own - other) ** 2, True),
    "dkd": of_logits(dkd(3.0, 1.5, 8.0)),
    "dkd_standardized": of_logits(dkd(1.5, 1.0, 2.0), True),
    "nkd": of_logits(nkd(3.0, 3.5)),
    "nkd_standardized": of_logits(nkd(1.5, 2.0), True),
    "dist": of_logits(dist(3.0, 1.0, 0.5)),
    "dist_standardized": of_logits(dist(1.5, 0.5, 1.0), True),
    "ttm": of_logits(ttm(0.1, weighted=False)),
    "ttm_standardized": of_logits(ttm(0.5, weighted=False), True),
    "wttm": of_logits(ttm(0.2, weighted=True)),
    "wttm_standardized": of_logits(ttm(0.5, weighted=True), True),
    "rld": of_logits(rld(3.0, 1.5, 8.0)),
    "rld_standardized": of_logits(rld(1.5, 1.0, 2.0), True),
    "mlkd": mlkd([2.0, 3.0], 0.5, 1.0),
    "mlkd_standardized": mlkd([1.5], 1.0, 0.5, True),
    "ctkd": ctkd(0.2, 1.0),
    "ctkd_standardized": ctkd(1.0, 2.0, True),
}


def halved(maps: Tensor) -> Any:
    """Return maps averaged down to half their height and width."""
    return maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))


def convolved(maps: Tensor, convolution: Any) -> Any:
    """Return a convolution of maps with zero padding, by a product of matrices."""
    weight, side = convolution.weight, convolution.weight.shape[-1]
    patches = functional.unfold(maps, side, padding=side // 2)  # (B, C * side^2, H * W)
    bias = 0 if convolution.bias is None else convolution.bias[:, None]
    return (weight.flatten(1) @ patches + bias).view(len(maps), -1, *maps.shape[2:])


def normalized(maps: Tensor, epsilon: float) -> Tensor:
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred / (centred.square().mean((0, 2, 3), keepdim=True) + epsilon).sqrt()


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()


def hidden_cosine(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - cosine(student.flatten(1), teacher.flatten(1).unflatten(1, (-1, 2)).mean(2)).mean()


def regression(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    return (convolved(student, loss.projector) - teacher).square().mean()


def projected(maps: Tensor, projector: Any) -> Any:
    """Return maps after a convolution and its BatchNorm in training."""
    weight, bias = (values[:, None, None] for values in (projector[1].weight, projector[1].bias))
    return normalized(convolved(maps, projector[0]), 1e-5) * weight + bias


def normalized_regression(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    return (projected(student, loss.projector).relu() - teacher).square().mean()


def spatial_cosine(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - cosine(convolved(student, loss.projector), teacher).mean()


def attention(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    own, other = (values.square().mean(1).flatten(1) for values in (halved(student), teacher))
    own, other = (values / values.square().sum(1, keepdim=True).sqrt() for values in (own, other))
    return (own - other).square().mean()


def similarity(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    grams = (vectors @ vectors.T for vectors in (student.flatten(1), teacher.flatten(1)))
    own, other = (gram / gram.square().sum(1, keepdim=True).sqrt() for gram in grams)
    return (own - other).square().mean()


def pkt(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    found = []
    for vectors in (student.flatten(1), teacher.flatten(1)):
        lengths = vectors.square().sum(1).sqrt()
        near = (1 + vectors @ vectors.T / (lengths[:, None] * lengths)) / 2
        found.append(near / near.sum(1, keepdim=True))
    own, other = found
    return (other * (other / own).log()).mean()


def huber(difference: Tensor) -> Tensor:
    size = difference.abs()
    return torch.where(size < 1, difference**2 / 2, size - 0.5).mean()


def rkd(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    distances, angles = [], []
    for vectors in (student.flatten(1), teacher.flatten(1)):
        apart = vectors[:, None] - vectors  # (B, B, D)
        same = torch.eye(len(vectors), dtype=torch.bool)
        length = apart.square().sum(2).masked_fill(same, 1.0).sqrt()
        distances.append((length / length[~same].mean()).masked_fill(same, 0.0))
        lines = apart / length.masked_fill(same, inf)[..., None]
        angles.append(torch.einsum("ijd,kjd->jik", lines, lines))
    return 25 * huber(distances[0] - distances[1]) + 50 * huber(angles[0] - angles[1])


def vid(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    mean = convolved(convolved(convolved(student, loss.mean[0]).relu(), loss.mean[2]).relu(), loss.mean[4])
    variance = (1 + loss.raw_variances.exp()).log()[:, None, None] + 1e-5
    assert loss.raw_variances.tolist() == pytest.approx([log(exp(5 - 1e-5) - 1)] * 6)
    return ((mean - teacher).square() / variance + variance.log()).mean() / 2


def srd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    own, other = (normalized(maps, 1e-4) for maps in (convolved(student, loss.projector), teacher))
    return ((own - other) ** 4).sum().log()


def ofd(projector: Any, student: Tensor, teacher: Tensor) -> Any:
    margins = torch.stack([own[own < 0].mean() for own in teacher.transpose(0, 1)])[:, None, None]
    made = projected(student, projector)
    wanted = torch.where(teacher > margins, teacher, margins)
    skipped = (made <= wanted) & (wanted <= 0)
    return ((made - wanted) ** 2)[~skipped].sum() / len(teacher)


def ofd_of_stages(loss: Any, student: Outputs, teacher: Outputs) -> Any:
    first, second = (
        ofd(loss.projectors[n], student.maps[name], teacher.maps[name]) for n, name in ((0, "body"), (1, "deep"))
    )
    return first / 2 + second


def ofd_averaged(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    return ofd(loss.projectors[0], student, teacher)


def nst(_: Any, student: Tensor, teacher: Tensor) -> Tensor:
    own, other = (maps.flatten(2) / maps.flatten(2).square().sum(2, keepdim=True).sqrt() for maps in (student, teacher))
    pairs = ((own, own), (other, other), (own, other))
    s, t, both = ((torch.einsum("bip,bjp->bij", *pair) ** 2).mean() for pair in pairs)
    return s + t - 2 * both


def ickd(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    made = projected(student, loss.projector)
    found = []
    for maps in (made, teacher):
        products = torch.einsum("bihw,bjhw->bij", maps, maps)
        found.append(products / products.square().sum(2, keepdim=True).sqrt())
    return ((found[0] - found[1]) ** 2).sum() / (len(teacher) * teacher.shape[1])


def mgd(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    aligned = convolved(student, loss.align)
    torch.manual_seed(7)  # as before the loss draws
    count, channels, height, width = aligned.shape
    shape = (count, channels, 1, 1) if loss.masked == "channels" else (count, 1, height, width)
    kept = torch.rand(shape, dtype=torch.float32) >= loss.share
    assert 0 < kept.float().mean() < 1
    made = convolved(convolved(aligned * kept, loss.generator[0]).relu(), loss.generator[2])
    return ((made - teacher) ** 2).sum() / count


def class_attention(loss: Any, student: Tensor, teacher: Tensor) -> Any:
    maps = (vectors @ layer.weight.T.to(vectors) for vectors, layer in zip((student, teacher), loss._last, strict=True))
    own, other = maps
    return (own - other).square().mean()


def of_layers(formula: Callable[[Any, Tensor, Tensor], Tensor], teacher: str = "body", halve: bool = False) -> Formula:
    return lambda loss, own, other: formula(
        loss, halved(own.maps["body"]) if halve else own.maps["body"], other.maps[teacher]
    )


ON_LAYERS: dict[str, Formula] = {
    "hidden_cosine": of_layers(hidden_cosine),
    "feature_regression": of_layers(regression),
    "feature_regression_1x1": of_layers(regression),
    "feature_regression_normalized": of_layers(normalized_regression),
    "spatial_cosine": of_layers(spatial_cosine),
    "attention": of_layers(attention, "deep"),
    "similarity": of_layers(similarity, "deep"),
    "pkt": of_layers(pkt, "deep"),
    "rkd": of_layers(rkd, "deep"),
    "vid": of_layers(vid),
    "vid_averaged": of_layers(vid, "deep", halve=True),
    "srd": of_layers(srd),
    "srd_averaged": of_layers(srd, "deep", halve=True),
    "ofd": ofd_of_stages,
    "ofd_averaged": of_layers(ofd_averaged, "deep", halve=True),
    "nst": of_layers(nst, "deep", halve=True),
    "ickd": of_layers(ickd, "deep"),
    "mgd": of_layers(mgd, "deep", halve=True),
    "mgd_of_positions": of_layers(mgd),
    "class_attention": lambda loss, own, other: class_attention(loss, own.maps["flat"], other.maps["flat"]),
}


def assert_is_formula(loss: Loss, formula: Formula, student: Outputs, teacher: Outputs) -> None:
    values = [student.logits, *student.maps.values()]
    trained = [*(value.requires_grad_() for value in values), *loss.parameters()]
    count, classes = student.logits.shape
    torch.manual_seed(7)
    result = loss(student, loss.teacher_target(teacher), batch(count, classes))
    expected = formula(loss, student, teacher)
    assert result.item() == pytest.approx(expected.item(), rel=1e-6)
    found = (torch.autograd.grad(total, trained, allow_unused=True) for total in (result, expected))
    for one, two in zip(*found, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", [*ON_LOGITS, *ON_LAYERS])
def test_a_loss_and_its_gradient_are_those_of_its_formula(name: str) -> None:
    formula = {**ON_LOGITS, **ON_LAYERS}[name]
    assert_is_formula(built(LOSSES[name]()), formula, outputs(STUDENT, seed=2), outputs(TEACHER, seed=1))


@pytest.mark.parametrize("name", [name for name in ON_LOGITS if "standard" not in name and name != "dist"])
def test_a_loss_on_the_logits_of_two_classes_is_that_of_its_formula(name: str) -> None:
    shapes: Shapes = {LOGITS: (2,)}
    loss = built(LOSSES[name](), shapes, shapes)
    assert_is_formula(loss, ON_LOGITS[name], outputs(shapes, seed=2), outputs(shapes, seed=1))


def test_every_loss_has_its_formula_here_or_in_the_files_of_its_authors_code() -> None:
    others = ("contrast", "review", "feature_regression_convreg", "feature_regression_transposed")
    assert {name for name in LOSSES if not name.startswith(others)} == {*ON_LOGITS, *ON_LAYERS}
    assert [name for name, make in LOSSES.items() if isinstance(make(), LogitLoss)] == list(ON_LOGITS)[2:]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_takes_the_shares_of_mixed_labels(smoothing: float) -> None:
    student, shares = outputs(STUDENT, seed=2), torch.rand(4, 5, dtype=torch.float64).softmax(1)
    loss = LOSSES["labels"]()
    loss.label_smoothing = smoothing  # type: ignore[assignment]
    expected = of_labels(smoothing, shares)(loss, student, student)
    assert loss(student, {}, batch()._replace(labels=shares)).item() == pytest.approx(expected.item(), rel=1e-6)

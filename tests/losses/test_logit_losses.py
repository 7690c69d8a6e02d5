"""Losses on logits against independent calculations: loops over numbers, no shared code."""

from collections.abc import Callable, Iterator
from math import exp, log, sqrt

import pytest
import torch
from loss_examples import LOSSES, batch, built
from torch import Tensor
from torch.nn.functional import cross_entropy

from kd_lightning.errors import UserError
from kd_lightning.losses import DIST, DKD, NKD, TTM, WTTM, CrossEntropy, LogitLoss, LogitRegression, Loss, SoftTargets
from kd_lightning.losses.logits import standardized
from kd_lightning.losses.pairs import pair_lines
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

Row = list[float]
ON_LOGITS = [name for name, make in LOSSES.items() if isinstance(make(), LogitLoss)]


def softmax(logits: Row, temperature: float = 1.0) -> Row:
    powers = [exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def divergence(student: Row, teacher: Row) -> float:
    return sum(q * log(q / p) for p, q in zip(student, teacher, strict=True))


def without(values: Row, index: int) -> Row:
    return values[:index] + values[index + 1 :]


def z_scores(logits: Row) -> Row:
    mean = sum(logits) / len(logits)
    deviation = sqrt(sum((logit - mean) ** 2 for logit in logits) / (len(logits) - 1))
    return [(logit - mean) / (deviation + 1e-7) for logit in logits]


def correlation(one: Row, other: Row) -> float:
    one, other = ([value - sum(values) / len(values) for value in values] for values in (one, other))
    lengths = sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths


def logits(classes: int = 5, count: int = 4) -> tuple[Tensor, Tensor]:
    """Return logits of a student and a teacher."""
    generator = torch.Generator().manual_seed(5)
    own, other = (torch.randn(count, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return 2 * own.requires_grad_(), 3 * other


def rows(classes: int = 5, standardize: bool = False) -> Iterator[tuple[Row, Row, int]]:
    """Give the student's logits, the teacher's and the label of each image."""
    for own, other, label in zip(*(given.tolist() for given in logits(classes)), (0, 1, 2, 3), strict=True):
        yield (z_scores(own), z_scores(other), label % classes) if standardize else (own, other, label % classes)


def of_logits(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    """Return a loss of logits (B, C) of images of the classes 0, 1, ... in turn."""
    count, classes = student.shape
    built(loss, {LOGITS: (classes,)}, {LOGITS: (classes,)})
    result: Tensor = loss(Outputs(student, {}), loss.teacher_target(Outputs(teacher, {})), batch(count, classes))
    return result


def soft_targets(temperature: float) -> Callable[[Row, Row, int], float]:
    return lambda own, other, _: temperature**2 * divergence(softmax(own, temperature), softmax(other, temperature))


def regression(own: Row, other: Row, label: int) -> float:
    return sum((a - b) ** 2 for a, b in zip(own, other, strict=True)) / len(own)


def dkd(temperature: float, alpha: float, beta: float) -> Callable[[Row, Row, int], float]:
    def of_image(own: Row, other: Row, label: int) -> float:
        p, q = softmax(own, temperature), softmax(other, temperature)
        of_label = divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        rest = divergence(softmax(without(own, label), temperature), softmax(without(other, label), temperature))
        return temperature**2 * (alpha * of_label + beta * rest)

    return of_image


def nkd(temperature: float, gamma: float) -> Callable[[Row, Row, int], float]:
    def of_image(own: Row, other: Row, label: int) -> float:
        p, q = softmax(without(own, label), temperature), softmax(without(other, label), temperature)
        rest = -sum(b * log(a) for a, b in zip(p, q, strict=True))
        return -softmax(other)[label] * log(softmax(own)[label]) + gamma * temperature**2 * rest

    return of_image


def ttm(gamma: float, weighted: bool) -> Callable[[Row, Row, int], float]:
    def of_image(own: Row, other: Row, label: int) -> float:
        powers = [probability**gamma for probability in softmax(other)]
        return (sum(powers) if weighted else 1) * divergence(softmax(own), [power / sum(powers) for power in powers])

    return of_image


BY_IMAGE = {
    "soft targets": soft_targets(3.0),
    "soft targets, standardized": soft_targets(1.5),
    "logit regression": regression,
    "logit regression, standardized": regression,
    "dkd": dkd(3.0, 1.5, 8.0),
    "dkd, standardized": dkd(1.5, 1.0, 2.0),
    "nkd": nkd(3.0, 3.5),
    "nkd, standardized": nkd(1.5, 2.0),
    "ttm": ttm(0.1, weighted=False),
    "ttm, standardized": ttm(0.5, weighted=False),
    "wttm": ttm(0.2, weighted=True),
    "wttm, standardized": ttm(0.5, weighted=True),
}


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    student = student.detach().requires_grad_()
    return torch.autograd.grad(of_logits(loss, student, teacher), student)[0]


@pytest.mark.parametrize(
    ("name", "classes"), [(name, count) for name in BY_IMAGE for count in (2, 5) if count > 2 or "stand" not in name]
)
def test_a_loss_on_logits_is_the_mean_over_images_of_its_formula(name: str, classes: int) -> None:
    expected = [BY_IMAGE[name](*row) for row in rows(classes, "standardized" in name)]
    assert of_logits(LOSSES[name](), *logits(classes)).item() == pytest.approx(sum(expected) / 4, rel=1e-6)


@pytest.mark.parametrize("standardize", [False, True])
def test_dist_is_the_mean_of_correlations_over_classes_and_over_images(standardize: bool) -> None:
    pairs = [(softmax(own, 3.0), softmax(other, 3.0)) for own, other, _ in rows(standardize=standardize)]
    over_classes = sum(1 - correlation(own, other) for own, other in pairs) / 4
    columns = [[[pair[network][c] for pair in pairs] for network in (0, 1)] for c in range(5)]
    over_images = sum(1 - correlation(own, other) for own, other in columns) / 5
    loss = DIST(temperature=3.0, beta=2.0, gamma=0.5, standardize=standardize)
    assert of_logits(loss, *logits()).item() == pytest.approx(9 * (2 * over_classes + 0.5 * over_images), rel=1e-6)


def test_dist_is_constant_where_its_correlations_are() -> None:
    over_classes, over_images = DIST(temperature=1.0, gamma=0.0), DIST(temperature=1.0, beta=0.0)
    agree = [(own[0] > own[1]) == (other[0] > other[1]) for own, other, _ in rows(classes=2)]
    assert 0 < sum(agree) < 4
    assert of_logits(over_classes, *logits(classes=2)).item() == pytest.approx(2 * (1 - sum(agree) / 4))
    assert gradient(over_classes, *logits(classes=2)).abs().max() < 1e-9
    assert gradient(over_images, *logits(count=2)).abs().max() < 1e-9
    assert of_logits(over_images, *logits(count=1)).item() == 1
    assert not gradient(over_images, *logits(count=1)).any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name.startswith("dist") or "standardized" in name])
@pytest.mark.parametrize("level", [0.0, 7.3])
def test_constant_logits_get_no_gradient_where_they_would_get_a_huge_one(name: str, level: float) -> None:
    teacher = logits()[1].float()
    loss = LOSSES[name]().float()
    assert not gradient(loss, torch.full_like(teacher, level), teacher).any()


@pytest.mark.parametrize("loss", [DKD(beta=1000.0, alpha=0.0), NKD(gamma=1000.0)])
def test_for_two_classes_the_part_of_the_other_class_is_zero(loss: Loss) -> None:
    student, teacher = logits(classes=2)
    plain = gradient(DKD(beta=0.0, alpha=0.0) if isinstance(loss, DKD) else NKD(gamma=0.0), student, teacher)
    assert torch.equal(gradient(loss, student, teacher), plain)


def test_dkd_divides_soft_targets_as_in_its_paper() -> None:
    for row in range(4):
        student, teacher = (given[row : row + 1] for given in logits())
        unsure = 1 - teacher.div(4).softmax(1)[0, 0].item()
        kd, dkd = (of_logits(loss, student, teacher) for loss in (SoftTargets(), DKD(beta=unsure)))
        assert kd.item() == pytest.approx(dkd.item(), rel=1e-6)


def test_soft_targets_at_a_high_temperature_are_half_the_regression() -> None:
    student, teacher = (given - given.mean(1, keepdim=True) for given in logits())
    hot, regressed = (of_logits(loss, student, teacher) for loss in (SoftTargets(temperature=1e4), LogitRegression()))
    assert hot.item() == pytest.approx(LogitRegression().full_weight * regressed.item(), rel=1e-3)


def test_standardized_logits_are_invariant_to_scale_and_offset_and_are_bounded() -> None:
    student, teacher = logits()
    for loss in (SoftTargets(standardize=True), DKD(standardize=True), TTM(standardize=True)):
        expected = of_logits(loss, student, teacher).item()
        assert of_logits(loss, 7 * student + 3, teacher / 5 - 1).item() == pytest.approx(expected, rel=1e-5)
    for classes in (3, 10, 100):
        sure = standardized(torch.eye(classes)[:1])
        assert sure.max().item() == pytest.approx((classes - 1) / sqrt(classes), rel=1e-5)
    assert (sure := standardized(torch.eye(10)) / 2).softmax(1).max().item() == pytest.approx(0.351, abs=5e-4)


@pytest.mark.parametrize("kind", [SoftTargets, LogitRegression, DKD, NKD, DIST, TTM, WTTM])
def test_two_classes_cannot_be_standardized(kind: type[LogitLoss]) -> None:
    with pytest.raises(UserError, match=f"^standardize of {kind.__name__} is true, but of 2 classes .*leave it out.$"):
        kind(standardize=True).build({LOGITS: (2,)}, {LOGITS: (2,)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DKD(temperature=0), "temperature of DKD is 0, but it must be above 0."),
        (lambda: NKD(temperature=-1), "temperature of NKD is -1"),
        (lambda: DIST(temperature=float("nan")), "temperature of DIST is nan"),
        (lambda: SoftTargets(temperature=float("inf")), "temperature of SoftTargets is inf"),
        (lambda: TTM(gamma=0), "gamma of TTM is 0"),
        (lambda: WTTM(gamma=-0.1), "gamma of WTTM is -0.1"),
    ],
)
def test_a_temperature_or_an_exponent_is_above_zero(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("kind", [DKD, NKD])
def test_the_auto_weight_of_a_decoupled_loss_depends_on_the_number_of_classes(kind: type[DKD | NKD]) -> None:
    for classes, expected in ((2, 0.1), (10, 0.3), (100, 1.0), (1000, 1.0)):
        shapes: Shapes = {LOGITS: (classes,)}
        chosen, given = kind(warm_up=4), kind(weight=1.5, warm_up=4)
        for loss in (chosen, given):
            loss.build(shapes, shapes)
        assert (chosen.full_weight, given.full_weight) == (expected, 1.5)
        assert chosen.weight.item() == pytest.approx(expected / 4)
        shown = [f"kd: weight {expected:g}, for {classes} classes"]
        assert (pair_lines({"kd": chosen}, shapes, shapes), pair_lines({"kd": given}, shapes, shapes)) == (shown, [])


def pull(kind: type[DKD | NKD], classes: int) -> tuple[float, float]:
    """The gradient of a loss at the logits as a multiple of the labels', without its weight and with it."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % classes
    shared, own = torch.randn(2, 600, classes, generator=draw)
    teacher, student = 2.5 * shared, 2.5 * (0.7 * shared + 0.7 * own)
    teacher[range(600), labels] += 11
    student[range(600), labels] += 6
    student.requires_grad_()
    loss = kind()
    loss.build({LOGITS: (classes,)}, {LOGITS: (classes,)})
    values = loss.compare(student, teacher, labels), cross_entropy(student, labels)
    one, two = (torch.autograd.grad(total, student)[0].norm().item() for total in values)
    return one / two, loss.full_weight * one / two


@pytest.mark.parametrize("kind", [DKD, NKD])
def test_the_weight_for_ten_classes_gives_about_the_gradient_of_the_published_one_for_a_hundred(
    kind: type[DKD | NKD],
) -> None:
    (plain, weighted), (published, same) = pull(kind, 10), pull(kind, 100)
    assert same == published
    assert plain > 1.8 * published
    assert 0.6 * published < weighted < 1.4 * published


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_takes_the_shares_of_mixed_labels(smoothing: float) -> None:
    student, shares = logits()[0], torch.rand(4, 5, dtype=torch.float64).softmax(1)
    expected = 0.0
    for row, mixed in zip(student.tolist(), shares.tolist(), strict=True):
        for p, share in zip(softmax(row), mixed, strict=True):
            expected -= ((1 - smoothing) * share + smoothing / 5) * log(p) / 4
    loss = CrossEntropy(label_smoothing=smoothing)
    assert loss(Outputs(student, {}), {}, batch()._replace(labels=shares)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in LOSSES if isinstance(LOSSES[name](), LogitLoss | CrossEntropy)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_are_compared_in_single(name: str, dtype: torch.dtype) -> None:
    student, teacher = (given.detach().to(dtype) for given in logits())
    result = of_logits(LOSSES[name](), student, teacher)
    expected = of_logits(LOSSES[name](), student.float(), teacher.float())
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)

"""Losses on logits: what their papers state of them, and their edges."""

from collections.abc import Callable
from math import cos, pi, sqrt

import pytest
import torch
from loss_examples import LOSSES, batch, built
from torch import Tensor
from torch.nn.functional import cross_entropy

from kd_lightning.errors import UserError
from kd_lightning.losses import (
    CTKD,
    DIST,
    DKD,
    MLKD,
    NKD,
    RLD,
    TTM,
    WTTM,
    CrossEntropy,
    LogitLoss,
    LogitRegression,
    Loss,
    SoftTargets,
)
from kd_lightning.losses.logits import standardized
from kd_lightning.losses.pairs import pair_lines
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes


def logits(classes: int = 5, count: int = 4) -> tuple[Tensor, Tensor]:
    """Return logits of a student and a teacher."""
    generator = torch.Generator().manual_seed(5)
    own, other = (torch.randn(count, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return 2 * own.requires_grad_(), 3 * other


def of_logits(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    """Return a loss of logits (B, C) of images of the classes 0, 1, ... in turn."""
    count, classes = student.shape
    built(loss, {LOGITS: (classes,)}, {LOGITS: (classes,)})
    result: Tensor = loss(Outputs(student, {}), loss.teacher_target(Outputs(teacher, {})), batch(count, classes))
    return result


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    student = student.detach().requires_grad_()
    return torch.autograd.grad(of_logits(loss, student, teacher), student)[0]


def test_dist_is_constant_where_its_correlations_are() -> None:
    over_classes, over_images = DIST(temperature=1.0, gamma=0.0), DIST(temperature=1.0, beta=0.0)
    student, teacher = logits(classes=2)
    agree = (student.argmax(1) == teacher.argmax(1)).double().mean().item()
    assert 0 < agree < 1
    assert of_logits(over_classes, student, teacher).item() == pytest.approx(2 * (1 - agree))
    assert gradient(over_classes, *logits(classes=2)).abs().max() < 1e-9
    assert gradient(over_images, *logits(count=2)).abs().max() < 1e-9
    assert of_logits(over_images, *logits(count=1)).item() == 1
    assert not gradient(over_images, *logits(count=1)).any()


STANDARDIZED = [name for name in LOSSES if "standardized" in name and "mlkd" not in name]  # MLKD has parts that are not


@pytest.mark.parametrize("name", [*STANDARDIZED, "dist"])
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DKD(standardize=True), "standardize of DKD is true, but of 2 classes .*leave it out.$"),
        (lambda: SoftTargets(temperature=float("inf")), "temperature of SoftTargets is inf, but it must be above 0.$"),
        (lambda: DIST(temperature=float("nan")), "temperature of DIST is nan"),
        (lambda: WTTM(gamma=-0.1), "gamma of WTTM is -0.1"),
        (lambda: MLKD([]), "temperatures of MLKD is empty; name"),
        (lambda: MLKD([4.0, 0.0]), "a temperature of MLKD is 0"),
        (lambda: CTKD(curriculum=-1), "curriculum of CTKD is -1"),
        (lambda: CTKD(span=0.0), "span of CTKD is 0"),
    ],
)
def test_two_classes_cannot_be_standardized_and_a_temperature_is_above_zero(
    make: Callable[[], Loss], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        make().build({LOGITS: (2,)}, {LOGITS: (2,)})


def test_rld_is_dkd_where_the_teacher_is_right_and_leaves_out_what_contradicts_the_label_where_it_is_wrong() -> None:
    student, teacher = logits()
    teacher[range(4), range(4)] = 9.0
    assert torch.allclose(gradient(RLD(), student, teacher), gradient(DKD(), student, teacher), rtol=1e-5)
    teacher[0] = torch.tensor([1.0, 3.0, 1.0, 0.0, -1.0])
    pulls = gradient(RLD(alpha=0.0), student, teacher)[0]
    assert (pulls[:3] == 0).all()  # the label, the class above it, and the one that is level with it
    assert (pulls[3:] != 0).all()
    teacher[0] = torch.tensor([-9.0, 3.0, 1.0, 0.0, -1.0])
    assert not gradient(RLD(alpha=0.0), student, teacher)[0].any()


def test_the_temperature_of_ctkd_is_trained_against_the_student_as_far_as_its_curriculum_has_come() -> None:
    student, teacher = (given.detach() for given in logits())
    loss, pulls = CTKD(curriculum=4), list[float]()
    for epoch in range(6):
        loss.set_epoch(epoch)
        pulls.append(torch.autograd.grad(of_logits(loss, student, teacher), loss.raw)[0].item())
    shares = [(1 - cos(pi * number / 4)) / 2 for number in (1, 2, 3, 4, 4, 4)]
    assert pulls == pytest.approx([pulls[-1] * share for share in shares])
    before = of_logits(loss, student, teacher).item()
    loss.raw.data -= 0.1 * pulls[-1]
    assert of_logits(loss, student, teacher).item() > before
    assert CTKD().current_temperature().item() == pytest.approx(15.62, abs=0.005)


@pytest.mark.parametrize("kind", [DKD, NKD, RLD])
def test_the_auto_weight_of_a_decoupled_loss_depends_on_the_number_of_classes(kind: type[DKD | NKD | RLD]) -> None:
    for classes, expected in ((2, 0.1), (10, 0.3), (100, 1.0), (1000, 1.0)):
        shapes: Shapes = {LOGITS: (classes,)}
        chosen, given = kind(warm_up=4), kind(weight=1.5, warm_up=4)
        for loss in (chosen, given):
            loss.build(shapes, shapes)
        assert (chosen.full_weight, given.full_weight) == (expected, 1.5)
        assert chosen.weight.item() == pytest.approx(expected / 4)
        shown = [f"kd: weight {expected:g}, for {classes} classes"]
        assert (pair_lines({"kd": chosen}, shapes, shapes), pair_lines({"kd": given}, shapes, shapes)) == (shown, [])


def pull(kind: type[DKD | NKD | RLD], classes: int) -> tuple[float, float]:
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


@pytest.mark.parametrize("kind", [DKD, NKD, RLD])
def test_the_weight_for_ten_classes_gives_about_the_gradient_of_the_published_one_for_a_hundred(
    kind: type[DKD | NKD | RLD],
) -> None:
    (plain, weighted), (published, same) = pull(kind, 10), pull(kind, 100)
    assert same == published
    assert plain > 1.8 * published
    assert 0.6 * published < weighted < 1.4 * published


@pytest.mark.parametrize("name", [name for name in LOSSES if isinstance(LOSSES[name](), LogitLoss | CrossEntropy)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_are_compared_in_single(name: str, dtype: torch.dtype) -> None:
    student, teacher = (given.detach().to(dtype) for given in logits())
    result = of_logits(LOSSES[name](), student, teacher)
    expected = of_logits(LOSSES[name](), student.float(), teacher.float())
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)

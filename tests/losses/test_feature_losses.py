"""The losses between layers at their edges, where reference code fails."""

from collections.abc import Callable
from math import log
from typing import Any

import pytest
import torch
from loss_examples import STUDENT, TEACHER, batch, built, compared, outputs, value
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses import (
    MGD,
    NST,
    OFD,
    PKT,
    RKD,
    SRD,
    VID,
    AttentionTransfer,
    FeatureRegression,
    LayerLoss,
    Loss,
    SimilarityPreserving,
    rkd,
)
from kd_lightning.losses.rkd import AngleLoss, angle_cosines, relational_loss, relative_distances
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

RELATIONS = (PKT, RKD, SimilarityPreserving)
VECTORS: Shapes = {"pool": (4,), LOGITS: (5,)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("count", [1, 2])
def test_one_image_has_no_relations_and_two_have_no_shape(kind: Any, count: int) -> None:
    loss, gradient = compared(kind("body"), draw(count, 3, 2, 2), draw(count, 7, seed=1))
    assert gradient.isfinite().all()
    assert (loss == pytest.approx(0, abs=1e-5)) == (count == 1 or kind is RKD)


@pytest.mark.parametrize("kind", RELATIONS)
def test_equal_images_and_images_of_zeros_have_a_finite_gradient(kind: Any) -> None:
    teacher = draw(6, 5)
    for student in (torch.full((6, 8), 3.7), draw(6, 8, seed=1)):
        student[1:3] = student[0]
        student[4] = 0
        for one, other in ((student, teacher), (teacher, student)):
            loss, gradient = compared(kind("body"), one, other)
            assert 0 < loss < 100
            assert gradient.abs().max() < 100


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("scale", [30, 1e-4])
def test_relations_of_turned_and_scaled_features_are_the_same(kind: Any, scale: float) -> None:
    teacher = draw(6, 8)
    turn = torch.linalg.qr(draw(8, 8, seed=1)).Q
    loss, gradient = compared(kind("body"), scale * teacher @ turn, teacher)
    assert loss == pytest.approx(0, abs=1e-6)
    assert scale * gradient.abs().max() < 1e-3


def test_opposite_features_have_a_finite_divergence() -> None:
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    loss, gradient = compared(PKT("body"), student, torch.ones(3, 2))
    assert 0 < loss < 10
    assert gradient.isfinite().all()


def test_distances_without_angles_compute_no_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, size, generator=generator) for size in (3, 5))
    both, angles = relational_loss(student, teacher, 25, 50), relational_loss(student, teacher, 0, 50)
    monkeypatch.setattr(rkd, "angle_cosines", None)
    torch.testing.assert_close(relational_loss(student, teacher, 25, 0), both - angles)


@pytest.mark.parametrize("triples", [1, 200, 2**18])
def test_gradient_of_angles_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch, triples: int) -> None:
    monkeypatch.setattr(rkd, "TRIPLES", triples)
    student, teacher = draw(9, 4).double(), draw(9, 5, seed=1).double()
    student[3] = student[2]
    own, other = relative_distances(student), relative_distances(teacher)
    apart = own > 0

    def loss(moved: Tensor) -> Any:
        return AngleLoss.apply(own.masked_scatter(apart, moved), other)

    assert torch.autograd.gradcheck(loss, own[apart].requires_grad_())


def test_gradient_of_angles_is_as_exact_in_a_step_of_half_precision() -> None:
    student, teacher = draw(12, 6), draw(12, 9, seed=1)
    exact = compared(RKD("body"), student, teacher)[1]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compared(RKD("body"), student, teacher)[1], exact)


def test_nearly_equal_images_define_no_direction() -> None:
    near = torch.tensor([[0.0, 5e-5, 1.0], [5e-5, 0.0, 1.0], [1.0, 1.0, 0.0]])
    cosines = angle_cosines(near, near)
    assert cosines[0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert cosines[2].flatten().tolist() == pytest.approx([1, 1, 0, 1, 1, 0, 0, 0, 0])


def test_distances_and_angles_are_invariant_to_translation() -> None:
    student, teacher = draw(6, 8), draw(6, 8, seed=1)
    near, far = (compared(RKD("body"), student + place, teacher)[0] for place in (0.0, 1000.0))
    assert far == pytest.approx(near, rel=1e-2)


@pytest.mark.parametrize("kind", RELATIONS)
def test_relations_are_computed_in_single_precision_in_a_step_of_less(kind: Any) -> None:
    student, teacher = draw(8, 6, 2, 2), draw(8, 9, seed=1)
    exact, _ = compared(kind("body"), student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert compared(kind("body"), student, teacher)[0] == exact


@pytest.mark.parametrize("kind", RELATIONS)
def test_relations_of_a_large_batch_are_measured_within_parts_of_a_training_batchs_size(kind: Any) -> None:
    student, teacher = draw(256, 5), draw(256, 6, seed=1)
    loss = kind("body").eval()
    parts = [compared(loss, student[rows], teacher[rows])[0] for rows in (slice(128), slice(128, 256))]
    assert compared(loss, student, teacher)[0] == pytest.approx(sum(parts) / 2)
    assert compared(loss.train(), student, teacher)[0] != pytest.approx(sum(parts) / 2, rel=1e-3)


def test_a_normalized_projector_trains_on_one_image_of_one_position() -> None:
    shapes: Shapes = {"body": (3, 1, 1), LOGITS: (5,)}
    loss = built(FeatureRegression("body", projector="3x3 normalized"), shapes, shapes)
    assert loss(outputs(shapes, 1), loss.teacher_target(outputs(shapes, 1, seed=1)), batch(1)).isfinite()


def test_vid_begins_with_variances_of_five_and_may_fall_below_zero() -> None:
    loss = built(VID("body"))
    assert isinstance(loss, VID)
    assert loss.variances().tolist() == pytest.approx([5.0] * 6)
    with torch.no_grad():
        loss.raw_variances.fill_(-8.0)
        maps = outputs(STUDENT).maps["body"]
        assert loss.compare(maps, loss.mean(maps)) < -3


def test_ofd_wants_a_student_to_be_below_the_mean_of_the_teachers_negative_values_so_far() -> None:
    shapes: Shapes = {"pool": (2,), LOGITS: (5,)}
    loss: Any = OFD("pool")
    loss.build(shapes, shapes)
    loss.projectors[0] = nn.Identity()
    teacher = torch.tensor([[-1.0, 4.0], [-3.0, 2.0], [6.0, 3.0]])
    student = torch.tensor([[-2.5, 0.0], [-1.0, 2.0], [1.0, 3.0]], requires_grad=True)

    def pulls(teacher: Tensor) -> Any:
        seen = Outputs(teacher, {"pool": teacher})
        result = loss(Outputs(student, {"pool": student}), loss.teacher_target(seen), batch(3))
        return (torch.autograd.grad(result, student)[0] * 3 / 2).tolist()

    assert pulls(teacher) == [[0, -4], [1, 0], [-5, 0]]  # margins are -2 and 0
    assert loss.margins0.tolist() == [-2, 0]
    pulls(-teacher)
    assert loss.margins0.tolist() == pytest.approx([-10 / 3, -3])
    loss.eval()
    pulls(10 * teacher)
    assert loss.margins0.tolist() == pytest.approx([-10 / 3, -3])


def test_nst_refuses_maps_of_one_place() -> None:
    with pytest.raises(UserError, match="maps of 4x1x1 and 4x1x1 have one place"):
        built(NST("pool"), {"pool": (4, 1, 1), LOGITS: (5,)}, {"pool": (4, 1, 1), LOGITS: (5,)})


def test_mgd_masks_its_share_in_training_and_nothing_in_validation() -> None:
    shapes: Shapes = {"body": (40, 5, 5), LOGITS: (5,)}
    for masked, size in (("channels", (40, 1, 1)), ("positions", (1, 5, 5))):
        loss: Any = built(MGD("body", masked=masked, share=0.25), shapes, shapes)  # type: ignore[arg-type]
        mask = loss._mask(torch.ones(30, 40, 5, 5))
        assert mask.shape == (30, *size)
        assert mask.mean().item() == pytest.approx(0.75, abs=0.07)
        assert {*mask.unique().tolist()} == {0, 1}
        own, target = outputs(shapes), loss.teacher_target(outputs(shapes, seed=1))
        assert loss(own, target, batch()) != loss(own, target, batch())
        loss.eval()
        assert loss(own, target, batch()) == loss(own, target, batch())
    with pytest.raises(UserError, match="share of MGD is 1"):
        MGD("body", share=1)


def test_srd_of_one_vector_is_finite_without_gradient_and_equal_in_training_and_validation() -> None:
    loss = built(SRD("pool"), VECTORS, VECTORS)
    for count in (1, 5):
        student, teacher = outputs(VECTORS, count), outputs(VECTORS, count, seed=1)
        student.maps["pool"].requires_grad_()
        trained, measured = (
            loss.train(mode)(student, loss.teacher_target(teacher), batch(count)) for mode in (True, False)
        )
        assert trained == measured
        [gradient] = torch.autograd.grad(trained, student.maps["pool"])
        assert gradient.isfinite().all()
        assert gradient.any() == (count > 1)
        assert (trained.item() == pytest.approx(log(1e-8))) == (count == 1)


def test_losses_share_cached_teacher_outputs_exactly_where_they_are_equal() -> None:
    teacher = outputs({**TEACHER, **VECTORS})
    shapes = {**STUDENT, **VECTORS}, {**TEACHER, **VECTORS}
    kept = [
        built(loss, *shapes).teacher_target(teacher)
        for loss in (
            VID("body"),
            SRD("body"),
            RKD("body"),
            VID("pool", "body"),
            VID("body", "pool"),
            PKT("body", "pool"),
        )
    ]
    assert [{key: tuple(values.shape[1:]) for key, values in target.items()} for target in kept] == [
        {"body": (6, 4, 4)},
        {"body": (6, 4, 4)},
        {"body": (6, 4, 4)},
        {"body averaged to 1x1": (6, 1, 1)},
        {"pool averaged to 1x1": (4, 1, 1)},
        {"pool": (4,)},
    ]


@pytest.mark.parametrize("kind", [VID, SRD, AttentionTransfer])
def test_the_larger_map_is_averaged_down_in_height_and_in_width(kind: Any) -> None:
    student: Shapes = {LOGITS: (5,), "body": (3, 4, 2)}
    teacher: Shapes = {LOGITS: (5,), "body": (3, 2, 4)}
    name = ["body"] if kind is AttentionTransfer else "body"
    loss = built(kind(name), student, teacher)
    [target] = loss.teacher_target(outputs(teacher)).values()
    assert target[0].numel() == (4 if kind is AttentionTransfer else 12)
    assert loss(outputs(student), loss.teacher_target(outputs(teacher)), batch()).isfinite()


class Own(LayerLoss):
    """The mean squared difference of channel means."""

    want = "pooled"

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return functional.mse_loss(student.mean(1), teacher.mean(1))


def test_a_loss_of_ones_own_is_averaged_down_and_summed_over_pairs_of_layers() -> None:
    pairs = [("body", "deep"), ("deep", "body"), ("flat", "body")]
    single = [value(built(Own(*names))).item() for names in pairs]
    students, teachers = ([pair[network] for pair in pairs] for network in (0, 1))
    assert value(built(Own(students, teachers))).item() == pytest.approx(sum(single))
    own, other = (
        functional.avg_pool2d(outputs(STUDENT, seed=2).maps["body"], 2),
        outputs(TEACHER, seed=1).maps["deep"],
    )
    assert single[0] == pytest.approx((own.mean(1) - other.mean(1)).square().mean().item())


class Projected(Own):
    projection = "1x1"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: VID("tokens"), "VID needs vectors, or maps of channels, height and width, but 'tokens' gives 9x4"),
        (lambda: SRD("body", "tokens"), "SRD needs vectors"),
        (lambda: SRD("body", exponent=0.5), "exponent of SRD is 0.5"),
        (lambda: Projected(["body", "deep"]), "Projected projects one layer, but student names 2; name one"),
        (lambda: RKD("body", angle=-1), "angle of RKD is -1"),
        (lambda: AttentionTransfer(["body"], power=0.5), "power of AttentionTransfer is 0.5"),
    ],
)
def test_layers_and_options_that_do_not_fit_are_refused(loss: Callable[[], Loss], message: str) -> None:
    shapes = {**STUDENT, "tokens": (9, 4)}
    with pytest.raises(UserError, match=message):
        built(loss(), shapes, shapes)

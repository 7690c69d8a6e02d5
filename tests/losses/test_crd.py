"""CRD against an independent calculation, and its memories."""

from typing import Any

import pytest
import torch
from loss_examples import LABELS, STUDENT, TEACHER, built, outputs, value
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import CRD
from kd_lightning.losses.crd import rows_of_other_classes
from kd_lightning.networks.layers import LOGITS

ROWS = torch.tensor([3, 0, 15, 8])
OTHERS = 6
T = 0.5


def crd(**options: Any) -> Any:
    return built(CRD("body", dimensions=4, negatives=OTHERS, temperature=T, **options))


def loss_of(loss: Any, seed: int = 2) -> Tensor:
    target = loss.teacher_target(outputs(TEACHER, seed=1))
    result: Tensor = loss(outputs(STUDENT, seed=seed), target, Batch(torch.zeros(4, 3, 8, 8), LABELS[ROWS], ROWS))
    return result


def embedded(maps: Tensor, layer: Any) -> Tensor:
    """The direction of the linear embedding of each map's means."""
    values: Tensor = maps.mean((2, 3)) @ layer.weight.T + layer.bias
    return values / values.square().sum(1, keepdim=True).sqrt()


def both(loss: Any, seed: int = 2) -> tuple[Tensor, Tensor]:
    student, teacher = outputs(STUDENT, seed=seed).maps["body"], outputs(TEACHER, seed=1).maps["body"]
    return embedded(student, loss.student_embedding), embedded(teacher, loss.teacher_embedding)


def powers(embeddings: Tensor, memory: Tensor, rows: Tensor) -> Tensor:
    """e^s of each image with some rows of a memory, its own first, (B, 1 + M)."""
    return ((embeddings[:, None] * memory[rows]).sum(2) / T).exp()


def contrasted(found: Tensor, z: Tensor) -> Tensor:
    """The loss as in the paper, of probabilities: p = e^s / (N z) against K / N, N = 16."""
    p = found / (16 * z)
    own, others = p[:, 0] / (p[:, 0] + OTHERS / 16), (OTHERS / 16) / (p[:, 1:] + OTHERS / 16)
    return -(own.log() + OTHERS * others.log().mean(1)).mean()


def test_contrast_and_its_gradient_match_the_formula_and_keep_the_z_of_the_first_batch() -> None:
    loss, levels = crd(), list[Tensor]()
    for step in range(2):
        own, other = both(loss, seed=2 + step)
        torch.manual_seed(step)
        drawn = rows_of_other_classes(LABELS[ROWS], OTHERS, loss.by_class, loss.ends)
        drawn = torch.cat([ROWS.unsqueeze(1), drawn], 1)
        found = powers(own, loss.teacher_memory.clone(), drawn), powers(other, loss.student_memory.clone(), drawn)
        levels = levels or [part.detach().mean() for part in found]
        expected = contrasted(found[0], levels[0]) + contrasted(found[1], levels[1])
        torch.manual_seed(step)
        result = loss_of(loss, seed=2 + step)
        assert result.item() == pytest.approx(expected.item(), rel=1e-9)
        parameters = list(loss.parameters())
        for one, two in zip(*(torch.autograd.grad(total, parameters) for total in (result, expected)), strict=True):
            assert torch.allclose(one, two)


def test_evaluation_compares_an_image_with_its_batch_and_draws_and_changes_nothing() -> None:
    loss = crd()
    loss_of(loss)
    levels = loss.levels.exp()
    loss.eval()
    before, random = {name: values.clone() for name, values in loss.state_dict().items()}, torch.get_rng_state()
    own, other = both(loss)
    rows = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]])
    expected = contrasted(powers(own, other, rows), levels[0]) + contrasted(powers(other, own, rows), levels[1])
    assert loss_of(loss).item() == pytest.approx(expected.item(), rel=1e-9)
    assert all(torch.equal(values, before[name]) for name, values in loss.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def moved(memory: Tensor, seen: Tensor, momentum: float) -> Tensor:
    values = momentum * memory + (1 - momentum) * seen
    return values / values.square().sum(1, keepdim=True).sqrt()


def test_a_memory_moves_in_place_towards_the_batch_only_in_its_rows() -> None:
    loss = crd(momentum=0.25)
    place, expected = loss.student_memory.data_ptr(), loss.student_memory.clone()
    expected[ROWS] = moved(expected[ROWS], both(loss)[0].detach(), 0.25)
    loss_of(loss)
    assert torch.allclose(loss.student_memory, expected)
    assert loss.student_memory.data_ptr() == place


def test_negatives_are_uniform_over_the_images_of_other_classes() -> None:
    torch.manual_seed(0)
    labels, loss = torch.tensor([1, 0, 3, 1, 4, 4, 1, 0]), crd()
    loss.start(8, labels)
    for label, drawn in enumerate(rows_of_other_classes(torch.arange(5), 20000, loss.by_class, loss.ends)):
        others = (labels != label).nonzero().flatten().tolist()
        counts = torch.bincount(drawn, minlength=8)
        assert counts.nonzero().flatten().tolist() == others
        assert counts[others].tolist() == pytest.approx([20000 / len(others)] * len(others), rel=0.05)


def test_a_test_of_a_checkpoint_has_a_memory_and_needs_no_labels() -> None:
    loss = crd()
    loss.start(7, None)
    assert loss.student_memory.shape == (7, 4)
    assert not any(name in loss.state_dict() for name in ("by_class", "ends"))
    assert value(loss.eval()).isfinite()


def test_a_memory_begins_with_directions_that_depend_only_on_the_random_seed() -> None:
    torch.manual_seed(3)
    loss = crd()
    memories = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        torch.rand(seed)
        loss.start(16, LABELS)
        memories.append(loss.teacher_memory)
    assert torch.equal(memories[0], memories[1])
    assert not torch.equal(memories[0], memories[2])
    assert torch.allclose(memories[0].norm(dim=1), torch.ones(16, dtype=memories[0].dtype))
    assert loss.batches == 0


def test_the_teacher_cache_holds_the_means_of_the_map() -> None:
    (kept,) = crd().teacher_target(outputs(TEACHER)).values()
    assert torch.allclose(kept, outputs(TEACHER).maps["body"].mean((2, 3), keepdim=True))


@pytest.mark.parametrize("option", [{"negatives": 0}, {"momentum": 1.0}, {"temperature": 0.0}], ids=str)
def test_an_option_out_of_its_range_is_refused(option: dict[str, Any]) -> None:
    [(name, given)] = option.items()
    with pytest.raises(UserError, match=f"{name} of CRD is {given}, but it must be"):
        CRD("body", **option)


def test_layers_and_data_that_cannot_be_contrasted_are_refused() -> None:
    with pytest.raises(UserError, match="'tokens' gives 9x3; name another layer"):
        CRD("tokens").build({"tokens": (9, 3), LOGITS: (5,)}, {"tokens": (9, 3), LOGITS: (5,)})
    with pytest.raises(UserError, match="all training images are of one class"):
        crd().start(3, torch.tensor([2, 2, 2]))

"""CRD against an independent calculation, and its memories."""

from math import exp, log, sqrt
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


def direction(numbers: list[float]) -> list[float]:
    length = sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def embedded(maps: Tensor, layer: Any) -> list[list[float]]:
    """The direction of the linear embedding of each map's means."""
    found = []
    for image in maps.tolist():
        means = [sum(map(sum, channel)) / sum(map(len, channel)) for channel in image]
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        found.append(direction([sum(w * m for w, m in zip(row, means, strict=True)) + bias for row, bias in rows]))
    return found


def both(loss: Any, seed: int = 2) -> tuple[list[list[float]], list[list[float]]]:
    student, teacher = outputs(STUDENT, seed=seed).maps["body"], outputs(TEACHER, seed=1).maps["body"]
    return embedded(student, loss.student_embedding), embedded(teacher, loss.teacher_embedding)


def similarities(embeddings: list[list[float]], memory: list[list[float]], rows: list[list[int]]) -> list[list[float]]:
    """Powers of e, the image's own one first."""
    return [
        [exp(sum(a * b for a, b in zip(one, memory[row], strict=True)) / T) for row in chosen]
        for one, chosen in zip(embeddings, rows, strict=True)
    ]


def mean(powers: list[list[float]]) -> float:
    return sum(map(sum, powers)) / sum(map(len, powers))


def contrasted(powers: list[list[float]], z: float, images: int) -> float:
    """The loss as in the paper, of probabilities: p = e^s / (N z) against K / N."""
    total = 0.0
    for own, *others in powers:
        p = own / (images * z)
        total -= log(p / (p + OTHERS / images))
        for other in others:
            p = other / (images * z)
            total -= OTHERS / len(others) * log((OTHERS / images) / (p + OTHERS / images))
    return total / len(powers)


def test_contrast_matches_its_formula_and_keeps_the_z_of_the_first_batch() -> None:
    loss, levels = crd(), list[float]()
    for step in range(2):
        own, other = both(loss, seed=2 + step)
        torch.manual_seed(step)
        drawn = torch.cat(
            [ROWS.unsqueeze(1), rows_of_other_classes(LABELS[ROWS], OTHERS, loss.by_class, loss.ends)], 1
        ).tolist()
        powers = (
            similarities(own, loss.teacher_memory.tolist(), drawn),
            similarities(other, loss.student_memory.tolist(), drawn),
        )
        levels = levels or [mean(part) for part in powers]
        torch.manual_seed(step)
        expected = sum(contrasted(part, z, 16) for part, z in zip(powers, levels, strict=True))
        assert loss_of(loss, seed=2 + step).item() == pytest.approx(expected, rel=1e-9)


def test_evaluation_compares_an_image_with_its_batch_and_draws_and_changes_nothing() -> None:
    loss = crd()
    loss_of(loss)
    levels = loss.levels.exp().tolist()
    loss.eval()
    before, random = {name: values.clone() for name, values in loss.state_dict().items()}, torch.get_rng_state()
    own, other = both(loss)
    batch = [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]]
    powers = similarities(own, other, batch), similarities(other, own, batch)
    expected = sum(contrasted(part, z, 16) for part, z in zip(powers, levels, strict=True))
    assert loss_of(loss).item() == pytest.approx(expected, rel=1e-9)
    assert all(torch.equal(values, before[name]) for name, values in loss.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_memory_moves_in_place_towards_the_batch_only_in_its_rows() -> None:
    loss = crd(momentum=0.25)
    place, before = loss.student_memory.data_ptr(), loss.student_memory.tolist()
    own, _ = both(loss)
    loss_of(loss)
    for row, kept in enumerate(before):
        expected = kept
        if row in ROWS:
            seen = own[ROWS.tolist().index(row)]
            expected = direction([0.25 * a + 0.75 * b for a, b in zip(kept, seen, strict=True)])
        assert loss.student_memory[row].tolist() == pytest.approx(expected, rel=1e-9), row
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives of CRD is 0"),
        ({"dimensions": 0}, "dimensions of CRD is 0"),
        ({"momentum": 1.0}, "momentum of CRD is 1.0"),
        ({"temperature": 0.0}, "temperature of CRD is 0.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CRD("body", **options)


def test_layers_and_data_that_cannot_be_contrasted_are_refused() -> None:
    with pytest.raises(UserError, match="'tokens' gives 9x3; name another layer"):
        CRD("tokens").build({"tokens": (9, 3), LOGITS: (5,)}, {"tokens": (9, 3), LOGITS: (5,)})
    with pytest.raises(UserError, match="all training images are of one class"):
        crd().start(3, torch.tensor([2, 2, 2]))


def test_a_batch_of_one_image_has_the_loss_of_its_own_pair() -> None:
    loss = crd().eval()
    assert value(loss, count=1).isfinite()


def test_processes_share_one_z_and_update_their_memories_with_the_batches_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single, theirs = crd(), torch.tensor([5, 6, 7, 9])
    before, own = single.student_memory.tolist(), both(single)[0]
    torch.manual_seed(1)
    loss_of(single)

    def all_gather(parts: list[Tensor], values: Tensor) -> None:
        parts[0].copy_(values)
        parts[1].copy_(theirs if values.dtype == torch.int64 else values + (values.shape == (1, 2)))

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather", all_gather)
    loss = crd()
    torch.manual_seed(1)
    loss_of(loss)
    for rows in (ROWS.tolist(), theirs.tolist()):
        for row, seen in zip(rows, own, strict=True):
            moved = direction([0.5 * a + 0.5 * b for a, b in zip(before[row], seen, strict=True)])
            assert loss.student_memory[row].tolist() == pytest.approx(moved, rel=1e-9)
    shared = (single.levels.exp() + (single.levels + 1).exp()) / 2
    assert loss.levels.exp().tolist() == pytest.approx(shared.tolist(), rel=1e-6)

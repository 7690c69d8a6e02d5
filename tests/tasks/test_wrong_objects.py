"""A class, a name or a list in place of an object is answered with the call that was meant."""

from collections.abc import Callable

import pytest
import torch

from kd_lightning.errors import UserError
from kd_lightning.losses import CrossEntropy, SoftTargets
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher


def distill(network: object = None, teacher: object = None, losses: object = None) -> object:
    losses = {"kd": SoftTargets()} if losses is None else losses
    return Distill(network or LightNN(), teacher or Teacher(DeepNN()), losses)  # type: ignore[arg-type]


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "class": (lambda: distill(LightNN), "network is the class LightNN, but it must be a Network object: LightNN"),
    "module": (lambda: Classifier(torch.nn.Linear(2, 3)), "network is a Linear, but it must be a Network object"),  # type: ignore[arg-type]
    "file": (lambda: Teacher("net.pth"), 'Network object: Teacher(DeepNN(), weights="teacher.pth")'),  # type: ignore[arg-type]
    "bare teacher": (
        lambda: distill(teacher=DeepNN()),
        "teacher is a DeepNN, but it must be a Teacher object: Teacher",
    ),
    "dict": (lambda: distill(teacher={"network": "DeepNN"}), "teacher is a dict, but it must be a Teacher object"),
    "list": (
        lambda: distill(losses=[CrossEntropy()]),
        'losses is a list, but each loss needs a name: {"labels": ',
    ),
    "one loss": (lambda: distill(losses=CrossEntropy()), "losses is a CrossEntropy, but each loss needs a name"),
    "loss class": (lambda: distill(losses={"kd": SoftTargets}), "the loss 'kd' is the class SoftTargets, but it must"),
    "loss name": (lambda: distill(losses={"kd": "kd"}), "the loss 'kd' is a str, but it must be a Loss object"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_object_is_answered_with_the_call(mistake: str) -> None:
    call, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        call()
    assert expected in str(error.value)

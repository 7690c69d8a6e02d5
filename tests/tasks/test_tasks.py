from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelPruning, StochasticWeightAveraging
from task_example import deep, light, make_batch, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import nn
from torch.nn import functional

from kd_lightning.data.augment import CutMix
from kd_lightning.errors import UserError
from kd_lightning.losses.hidden_cosine import cosine_loss, pooled_direction
from kd_lightning.tasks import Classifier, CosineDistill, FeatureRegressDistill
from kd_lightning.teacher import Teacher


def test_the_teacher_is_bit_identical_and_in_evaluation_mode_after_training() -> None:
    network = TinyNetwork()  # with running statistics, which a careless training mode would move
    task = FeatureRegressDistill(TinyNetwork(), Teacher(network))
    before = {name: values.clone() for name, values in network.state_dict().items()}
    trainer = quick_trainer()
    trainer.fit(task, datamodule=TinyDataModule())
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
    assert not any(module.training for module in task.teacher.modules())
    assert all(values.grad is None for values in task.teacher.parameters())
    optimized = {id(values) for group in trainer.optimizers[0].param_groups for values in group["params"]}
    assert not optimized & {id(values) for values in network.parameters()}
    assert optimized == {id(values) for values in task.trained_parameters()}


def test_checkpoints_leave_the_teacher_out_and_load_strictly_without_it() -> None:
    task = FeatureRegressDistill(light(), Teacher(deep()))
    state = task.state_dict()
    assert not [key for key in state if key.startswith("teacher.network")]
    assert any(key.startswith("losses.feature_map_loss.projector") for key in state)
    other = FeatureRegressDistill(light(), Teacher(deep()))
    teacher = {name: values.clone() for name, values in other.teacher.named_parameters()}
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(teacher[name], values) for name, values in other.teacher.named_parameters())
    with pytest.raises(RuntimeError, match=r"network\.classifier\.3\.bias"):
        other.load_state_dict({key: values for key, values in state.items() if key != "network.classifier.3.bias"})


def test_a_classifier_smooths_labels_where_that_is_requested() -> None:
    task, batch = Classifier(light(), label_smoothing=0.2).eval(), make_batch()
    loss = task.step(batch).loss
    logarithms = task(batch.images).log_softmax(1)
    shares = [[0.85 if label == place else 0.05 for place in range(4)] for label in batch.labels.tolist()]
    assert torch.allclose(loss, -(torch.tensor(shares) * logarithms).sum(1).mean())
    with pytest.raises(UserError, match="label_smoothing of CrossEntropy is 1"):
        Classifier(light(), label_smoothing=1.0)


def layer(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name)


def test_cosine_distillation_has_the_tutorials_terms_and_weights() -> None:
    task = CosineDistill(light(), Teacher(deep())).eval()
    batch = make_batch()
    student_map = layer(task.network, "features")(batch.images)
    teacher_map = layer(task.teacher.networks[0], "features")(batch.images)
    losses = task.step(batch).losses
    assert torch.allclose(losses["labels"], functional.cross_entropy(task.network(batch.images), batch.labels))
    assert torch.allclose(
        losses["hidden_rep_loss"], cosine_loss(student_map, pooled_direction(teacher_map, student_map.shape[1:]))
    )
    assert {name: float(loss.weight) for name, loss in task.losses.named.items()} == {
        "labels": 0.75,
        "hidden_rep_loss": 0.25,
    }


def test_feature_regression_compares_the_regressed_map_with_the_teachers() -> None:
    task = FeatureRegressDistill(light(), Teacher(deep())).eval()
    batch = make_batch()
    regressed = layer(task, "losses.feature_map_loss.projector")(layer(task.network, "features")(batch.images))
    expected = functional.mse_loss(regressed, layer(task.teacher.networks[0], "features")(batch.images))
    assert torch.allclose(task.step(batch).losses["feature_map_loss"], expected)
    assert {name: float(loss.weight) for name, loss in task.losses.named.items()} == {
        "labels": 0.75,
        "feature_map_loss": 0.25,
    }


def test_a_trained_network_is_far_better_than_chance_on_test_images() -> None:
    seed_everything(0, verbose=False)
    task = Classifier(light(), optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3))
    trainer = quick_trainer(epochs=8)
    trainer.fit(task, datamodule=TinyDataModule(count=400))
    accuracy = trainer.test(task, datamodule=TinyDataModule(count=400), verbose=False)[0]["test/accuracy"]
    assert accuracy > 0.8


def test_tests_measure_the_teacher_beside_the_student() -> None:
    task = CosineDistill(light(), Teacher(deep()))
    data = TinyDataModule()
    metrics = quick_trainer().test(task, datamodule=data, verbose=False)[0]
    images = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    right = (task.teacher(images.images).argmax(1) == images.labels).float().mean()
    assert metrics["test/teacher_accuracy"] == pytest.approx(float(right))


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_images_and_cached_targets_have_the_precision_of_the_networks(precision: Any) -> None:
    trainer = quick_trainer(precision=precision)
    task = CosineDistill(light(), Teacher(deep()), cache_teacher=precision == "bf16-true")
    augment = [CutMix()] if precision == "64-true" else []
    trainer.fit(task, datamodule=TinyDataModule(count=200, augment=augment))
    expected = torch.bfloat16 if precision == "bf16-true" else torch.float64
    assert next(task.network.parameters()).dtype == expected
    assert 0 < float(trainer.callback_metrics["train/loss"]) < 3


@pytest.mark.parametrize(
    "callback",
    [StochasticWeightAveraging(1e-3, 1), EMAWeightAveraging(), ModelPruning("l1_unstructured", amount=0.5)],
    ids=lambda callback: type(callback).__name__,
)
def test_no_callback_that_walks_the_modules_reaches_the_teacher(callback: Callback) -> None:
    network = TinyNetwork()
    network(torch.randn(8, 3, 8, 8))  # running statistics of its own
    before = {name: values.clone() for name, values in network.state_dict().items()}
    momentum = [module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    task = CosineDistill(TinyNetwork(), Teacher(network))
    quick_trainer(callbacks=[callback]).fit(task, datamodule=TinyDataModule())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    assert momentum == [module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_teacher_follows_the_task_to_another_device_and_precision() -> None:
    task = CosineDistill(light(), Teacher(deep()))
    assert {values.dtype for values in task.double().teacher.parameters()} == {torch.float64}
    assert {values.device.type for values in task.to("meta").teacher.parameters()} == {"meta"}

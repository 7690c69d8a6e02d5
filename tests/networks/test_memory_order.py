"""Networks, optimizers and callbacks that only work with contiguous memory."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import ModelPruning
from task_example import light, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn

from kd_lightning.export.verify import torch_reference
from kd_lightning.networks.weights import save_weights
from kd_lightning.prediction.torch_predictor import TorchPredictor
from kd_lightning.tasks import Classifier, CosineDistill, FeatureRegressDistill
from kd_lightning.teacher import Teacher


class Views(TinyNetwork):
    """Flattens as tutorials do."""

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.arguments.pop("width")
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the flattened map."""
        return self.head(self.features(images).view(images.size(0), -1))  # type: ignore[no-any-return]


def test_a_network_that_calls_view_trains_teaches_predicts_and_is_verified(tmp_path: Path) -> None:
    data = TinyDataModule()
    task = CosineDistill(Views(), Teacher(Views()), cache_teacher=True)
    trainer = quick_trainer()
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    pixels, info = data.split("test").images[:5].numpy(), task.model_info()
    save_weights(tmp_path / "net.pth", task.network, info)
    images = data.normalization.apply(torch.from_numpy(pixels).permute(0, 3, 1, 2)).contiguous()
    expected = task.network.eval()(images).detach()
    assert np.allclose(torch_reference(task.network, info, pixels, None).logits, expected, atol=1e-6)
    predicted = TorchPredictor(tmp_path / "net.pth").probabilities(pixels)
    assert np.allclose(predicted, expected.softmax(1), atol=1e-6)


def test_networks_of_both_kinds_learn_from_each_other() -> None:
    task = FeatureRegressDistill(Views(), Teacher(TinyNetwork()), cache_teacher=False)
    quick_trainer().fit(task, datamodule=TinyDataModule())


def test_a_network_that_can_do_with_it_gets_channels_last_memory_and_statistics_as_before() -> None:
    network = TinyNetwork()
    before = {name: values.clone() for name, values in network.named_buffers()}
    assert not network.to_channels_last().needs_contiguous
    assert network.training
    assert next(network.features.parameters()).is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(values, before[name]) for name, values in network.named_buffers())


def test_an_optimizer_that_flattens_gradients_trains() -> None:
    task = Classifier(TinyNetwork(), optimizer=lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3))
    before = [values.detach().clone() for values in task.network.parameters()]
    quick_trainer().fit(task, datamodule=TinyDataModule())
    after = list(task.network.parameters())
    assert not any(torch.equal(mine, other) for mine, other in zip(before, after, strict=True))


def test_pruned_weights_are_zero_and_the_others_go_on_learning() -> None:
    task = FeatureRegressDistill(light(), Teacher(light()))
    weights = [module.weight for module in task.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    before = [values.detach().clone() for values in weights]
    pruning = ModelPruning("l1_unstructured", amount=0.1, use_lottery_ticket_hypothesis=False)
    quick_trainer(epochs=3, callbacks=[pruning]).fit(task, datamodule=TinyDataModule())
    pruned = [module.weight for module in task.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    share = sum(float((values == 0).sum()) for values in pruned) / sum(values.numel() for values in pruned)
    assert 0.2 < share < 0.3  # a tenth of the rest, three times
    for mine, other in zip(before, pruned, strict=True):
        assert ((other != 0) & (other != mine)).any()


def test_hooks_on_the_layers_of_our_networks_are_called_while_training_and_change_nothing() -> None:
    network, calls = light().train(), []
    images = torch.randn(2, 3, 8, 8)
    before = network.features(images)
    for module in network.features:
        module.register_forward_hook(lambda *_: calls.append(1))
    assert torch.allclose(network.features(images), before, atol=1e-6)
    assert len(calls) == len(network.features)

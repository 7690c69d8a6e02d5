"""Networks that torch.compile has compiled train as the others do."""

from functools import partial
from typing import Any

import pytest
import torch
from fast_example import assert_same, classifier, cosine, train
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks.read_back import check_weights
from kd_lightning.tasks import Task


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let torch.compile only trace, which needs no compiler; list the graphs that it was given."""
    graphs: list[int] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    return graphs


@pytest.mark.parametrize(
    ("make", "count", "fast"),
    [
        (classifier, 1, False),
        (partial(cosine, cache_teacher=True), 1, True),
        (partial(cosine, cache_teacher=False), 2, True),
    ],
    ids=["classifier", "cached teacher", "live teacher"],
)
def test_compiled_networks_train_alike_and_are_compiled_once(
    make: Any, count: int, fast: bool, graphs: list[int]
) -> None:
    plain = train(make, fast)
    compiled = train(partial(make, compiled=True), fast)
    assert_same(plain, compiled, exact=False)
    assert len(graphs) == count  # neither for an epoch's last batch nor for validation


def test_however_many_networks_are_trained_each_is_compiled_and_stays_unchanged(
    graphs: list[int],
) -> None:
    def make(fast: bool) -> Task:
        return classifier(fast, compiled=True)

    for runs in range(1, 10):  # torch.compile keeps eight
        _, task = train(make, True, limit_train_batches=2, limit_val_batches=0, max_epochs=1)
        assert len(graphs) == runs
        assert not {"forward"} & task.network.__dict__.keys()


def test_what_a_compiled_network_has_learned_is_read_from_its_weights(graphs: list[int]) -> None:
    _, task = train(lambda fast: classifier(fast, compiled=True), False)
    assert graphs
    images = torch.randn(8, *task.network.image_shape)
    check_weights(task.network, task.network.state_dict(), info_of(task.network), images, "net.pth")


def test_a_machine_that_cannot_compile_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler was found\nat some place")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    with pytest.raises(UserError, match=r"compiled is true, but torch.compile fails here: .*; set it to false\.$"):
        train(lambda fast: classifier(fast, compiled=True), True)

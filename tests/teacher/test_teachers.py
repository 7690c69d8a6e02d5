"""Several teachers: what they average, which one a loss learns from, and one command that trains all in a chain."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from training_example import NO_EXPORT, TINY

from kd_lightning.cli import main
from kd_lightning.compare.rows import plan_rows
from kd_lightning.compare.study import read_request
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.losses import CrossEntropy, FeatureRegression, LogitRegression, Loss, SoftTargets
from kd_lightning.networks.layers import LOGITS
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher, Teachers, cache
from kd_lightning.training.cli import run


def teacher(width: int = 4) -> Teacher:
    torch.manual_seed(width)
    return Teacher(TinyNetwork(width=width))


def trained(of: Any, losses: dict[str, Loss] | None = None, **options: Any) -> Distill:
    torch.manual_seed(0)
    task = Distill(TinyNetwork(), of, losses or {"labels": CrossEntropy(), "kd": SoftTargets()}, **options)
    quick_trainer(1, callbacks=[TrainAhead()]).fit(task, datamodule=TinyDataModule(count=80))
    return task


def same_weights(one: Distill, other: Distill) -> bool:
    return all(map(torch.equal, one.network.parameters(), other.network.parameters()))


@pytest.mark.parametrize("options", [{}, {"cache_teacher": False}, {"fast": True}], ids=["cached", "live", "fast"])
def test_two_copies_of_a_teacher_are_that_teacher_bit_for_bit(options: dict[str, Any]) -> None:
    assert same_weights(trained(teacher(), **options), trained([teacher(), teacher()], **options))


def test_the_average_is_that_of_logits_or_of_probabilities_by_the_teachers_shares() -> None:
    one, other, images = teacher(3), teacher(6), torch.randn(5, 3, 8, 8)
    for found in (one, other):
        found.network.state_dict()["head.weight"].mul_(20)  # clearly other probabilities
    members, first, second = {"one": one, "other": other}, one(images), other(images)
    mean = Teachers(members, shares={"one": 3})(images)
    assert torch.allclose(mean, 0.75 * first + 0.25 * second, rtol=0, atol=1e-5)
    mean = Teachers(members, "probabilities", {"one": 3})(images)
    expected = 0.75 * first.softmax(1) + 0.25 * second.softmax(1)
    assert torch.allclose(mean.exp(), expected, rtol=0, atol=1e-6)  # the logarithm itself, not up to a constant
    assert not torch.allclose(mean.softmax(1), (0.75 * first + 0.25 * second).softmax(1), atol=1e-2)
    copies = Teachers({"a": one, "b": one}, "probabilities")(images)
    assert torch.allclose(copies.softmax(1), first.softmax(1), rtol=0, atol=1e-6)


def kept(by_loss: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Return the cached targets of the first images, by loss, of a fit with tables on the disk."""
    monkeypatch.setattr(cache, "KEPT_FROM", 0.0)
    losses: dict[str, Loss] = {"one": LogitRegression(), "two": LogitRegression(), "mean": LogitRegression()}
    of = Teachers({"narrow": teacher(3), "wide": teacher(6)}, by_loss=by_loss)
    task, data, found = Distill(TinyNetwork(), of, losses), TinyDataModule(count=40), {}

    def look() -> None:
        batch = data.on_after_batch_transfer(data.train_dataloader().gather(torch.arange(8)), 0)
        assert batch.views is not None
        found.update(task.targets(batch).targets)

    task.when_ready(look)
    quick_trainer(1).fit(task, datamodule=data)
    assert task.teacher_cache is not None
    images = data.normalization.apply(data.split("train").images[:8].permute(0, 3, 1, 2))
    expected = {"narrow": teacher(3)(images), "wide": teacher(6)(images)}
    expected[""] = (expected["narrow"] + expected["wide"]) / 2
    for name in losses:
        assert torch.allclose(found[name][LOGITS], expected[by_loss.get(name, "")], rtol=0, atol=1e-5), (name, by_loss)
    return found


def test_saved_tables_of_one_teacher_are_never_taken_for_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    kept({"one": "narrow", "two": "wide"}, monkeypatch)
    kept({"one": "wide", "two": "narrow"}, monkeypatch)
    kept({"mean": "wide"}, monkeypatch)


def test_a_loss_on_layers_reads_those_of_the_teacher_that_it_names() -> None:
    losses: dict[str, Loss] = {"maps": FeatureRegression("features"), "kd": SoftTargets()}
    members = {"narrow": teacher(3), "wide": teacher(6)}
    task = trained(Teachers(members, by_loss={"maps": "wide"}), losses)
    assert task.targets.shapes_of("maps")["features"] == (6, 4, 4)
    images = torch.randn(5, 3, 8, 8)
    found, expected = task.targets.compute(images).targets["maps"]["features"], members["wide"].network
    assert torch.equal(found, expected.get_submodule("features")(images))


MEMBERS: dict[str, Any] = {"one": teacher(), "other": teacher()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": {}}, "--model.teacher.members names no teacher; name two or more"),
        ({"members": {"a b": teacher()}}, "a teacher is called 'a b'; give it a name of letters"),
        ({"members": {"one": TinyNetwork()}}, "the teacher 'one' is a TinyNetwork, but it must be a Teacher object"),
        ({"shares": {"two": 1}}, "there is no teacher 'two' in --model.teacher; name one of one, other."),
        ({"by_loss": {"kd": "two"}}, "there is no teacher 'two' in --model.teacher; name one of one, other."),
        ({"shares": {"one": 0}}, "--model.teacher.shares.one is 0, but it must be above 0."),
        ({"by_loss": {"dist": "one"}}, "--model.teacher.by_loss.dist is for no loss; name one of kd, maps."),
        ({}, "the loss 'maps' reads layers, but there are several teachers, .* by --model.teacher.by_loss.maps one."),
    ],
)
def test_teachers_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    losses: dict[str, Loss] = {"kd": SoftTargets(), "maps": FeatureRegression("features")}
    with pytest.raises(UserError, match=words):
        Distill(TinyNetwork(), Teachers(**{"members": MEMBERS, **options}), losses)


def of_file(width: int, config: str) -> dict[str, Any]:
    network = {"class_path": "tiny.TinyNetwork", "init_args": {"width": width}}
    return {"class_path": "Teacher", "init_args": {"network": network, "config": config}}


def write(name: str, task: str, width: int, **options: Any) -> None:
    network = {"class_path": "tiny.TinyNetwork", "init_args": {"width": width}}
    model = {"class_path": task, "init_args": {"network": network, **options}}
    files = dict.fromkeys(("onnx", "dynamic", "static"))
    Path(name).write_text(yaml.safe_dump({"model": model, "data": "tiny.TinyDataModule", "files": files}))


@pytest.fixture
def chain(temp_folder: Path) -> None:
    """A student of two teachers, of which one is an assistant that learns from the other."""
    losses = {"labels": "CrossEntropy", "kd": "SoftTargets"}
    write("big.yaml", "Classifier", 6)
    write("assistant.yaml", "Distill", 5, teacher=of_file(6, "big.yaml"), losses=losses)
    members = {"assistant": of_file(5, "assistant.yaml"), "big": of_file(6, "big.yaml")}
    several = {"class_path": "Teachers", "init_args": {"members": members, "average": "probabilities"}}
    write("student.yaml", "Distill", 4, teacher=several, losses=losses)


STUDENT = ["--config=student.yaml", *TINY, "--trainer.max_epochs=1", "--data.classes=3"]


@pytest.mark.usefixtures("chain")
def test_one_command_trains_a_chain_of_three_and_the_next_takes_what_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = run(["fit", *STUDENT, NO_EXPORT])
    out = capsys.readouterr().out
    order = [out.index(f"There is no teacher{of}: {name}.yaml trains it first") for of, name in ORDER]
    assert order == sorted(order)
    assert [network.num_classes for network in done.model.networks()] == [3, 3, 3]
    assert out.count("There is no ") == 2  # the assistant's run has trained its own teacher, which teaches here, too
    assert main(["fit", *STUDENT, NO_EXPORT, "--ckpt_path=last", "--trainer.max_epochs=2"]) == 0
    given = "--model.teacher.members.big.weights=lightning_logs/assistant/version_0/weights.pth"
    again = [*STUDENT, "--ckpt_path=last", given, "--model.teacher.members.big.network.width=5"]
    capsys.readouterr()
    assert main(["fit", *again]) == 2
    assert "not from lightning_logs/assistant/version_0/weights.pth; add --model.teacher.members.big.weights l" in (
        capsys.readouterr().err
    )
    for name in ("assistant", "big"):
        assert len(list(Path("lightning_logs", name).glob("version_*"))) == 1
    rows = "{config: big.yaml}, baseline: {config: big.yaml, name: alone}, compared: [{config: student.yaml}]"
    Path("study.yaml").write_text(f"{{teacher: {rows}}}")
    *_, row = plan_rows(read_request(["--config=study.yaml", *STUDENT[1:]]))
    assert not row.learns  # a study's one teacher is not these two
    assert [word for word in row.args if "weights" in word] == [
        f"--model.teacher.members.{name}.weights=lightning_logs/{name}/version_0/weights.pth"
        for name in ("assistant", "big")
    ]


ORDER = [(" assistant yet", "assistant"), (" yet", "big")]


@pytest.mark.usefixtures("chain")
def test_teachers_that_need_each_other_are_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    write("big.yaml", "Distill", 6, teacher=of_file(5, "assistant.yaml"), losses={"kd": "SoftTargets"})
    assert main(["fit", *STUDENT]) == 2
    printed = capsys.readouterr()
    assert "big.yaml trains a teacher with assistant.yaml first, without end (assistant.yaml -> big.yaml -> " in (
        printed.err
    )
    assert printed.err.count("\n") == 1
    assert not Path("lightning_logs").exists()

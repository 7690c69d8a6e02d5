"""Mistaken options: one sentence that names the option, the value and what was expected."""

from pathlib import Path

import pytest
import tiny  # noqa: F401  bare class names are those of imported classes
from lightning.pytorch.cli import LightningArgumentParser

from kd_lightning.cli import main
from kd_lightning.errors import UserError
from kd_lightning.training.cli import TrainingCLI, run

NUMBER, WHOLE, SWITCH = "it must be a number", "it must be a whole number", "it must be true or false"

MISTAKES = {
    "--trainer.max_epochs=x": f"--trainer.max_epochs is x, but {WHOLE} or null.",
    "--trainer.max_epochs=1.5": f"--trainer.max_epochs is 1.5, but {WHOLE} or null.",
    "--trainer.deterministic=maybe": "is maybe, but it must be warn or true or false or null.",
    "--trainer.foo=3": "there is no option --trainer.foo=3; `--help` lists the options.",
    "--trainer.callbacks=[Foo]": "there is no 'Foo' for --trainer.callbacks; choose one of ",
    "--trainer.callbacks=[{class_path: SaveWeights, init_args: {file: x}}]": "SaveWeights has filename (did you",
    "--trainer.callbacks=[{class_path: ExportONNX, init_args: {max_drop: x}}]": f".max_drop is x, but {NUMBER}.",
    "--trainer.callbacks=[EarlyStopping]": "monitor must be given in --trainer.callbacks",
    "--model=torch.nn.Linear": "--model is torch.nn.Linear, which is not a subclass of Task; `kd-lightning li",
    "--model.lr_scheduler=ReduceLROnPlateau": "but several classes have that name; give one of torch.optim.lr",
    "--model.optimizer=torch.optim.Nope": "there is no 'torch.optim.Nope' for --model.optimizer (module 'torch.optim' ",
    "--model.network=nowhere.Net": "there is no 'nowhere.Net' for --model.network (No module named 'nowhere'); ",
    "--model.network=torch.nn.Linear": "--model.network is torch.nn.Linear, which is not a subclass of Network; ",
    "--model.network.widht=3": "there is no option --model.network.widht; LightNN has dropout.",
    "--model.optimizer.lr=x": f"--model.optimizer.lr is x, but {NUMBER}.",
    "--model.optimizer.betas=3": "--model.optimizer.betas is 3, but it must be a list.",
    "--model.optimizer.learning_rate=1": "no option --model.optimizer.learning_rate; Adam has amsgrad, ",
    "--model.lr_scheduler=StepLR": "step_size must be given in --model.lr_scheduler",
    "--data.augment=RandomCrop": "--data.augment is RandomCrop, but it must be a list.",
    "--data.augment=[{class_path:RandomCrop}, HorizontalFlip": "RandomCrop}, HorizontalFlip, but it must be "
    "a list; YAML needs a space after each colon: `class_path: RandomCrop`.",
    "--data.augment=[{class_path:RandomCrop, init_args: {}}]": "after each colon: `class_path: RandomCrop`.",
    "--model.network={class_path:LightNN}": "; YAML needs a space after each colon: `class_path: LightNN`",
    "--data.augment=[{class_path: RandomCrop, init_args: {padding: x}}]": f"--data.augment.padding is x, but {WHOLE}.",
    "--trainer.logger=CSVLogger": "save_dir must be given in --trainer.logger, as in --trainer.logger.save_dir light",
    "--trainer.logger=CsvLogger": "there is no 'CsvLogger' for --trainer.logger; did you mean CSVLogger?",
    "--trainer.callbacks=EarlyStop": "there is no 'EarlyStop' for --trainer.callbacks; did you mean EarlyStopping",
    "--model.optimizer=MuonAdamw": "there is no 'MuonAdamw' for --model.optimizer; did you mean MuonAdamW?",
    "--model.optimizer=adamw": "there is no 'adamw' for --model.optimizer; did you mean AdamW?",
    "--model.network=wideresnet": "there is no 'wideresnet' for --model.network; did you mean WideResNet?",
    "--data.normalize=x": "there is no 'x' for --data.normalize; choose one of imagenet, auto, or ",
    "--data.normalize={mean: a, std: b}": "--data.normalize.mean is a, but it must be a list.",
}


DISTILL = """
model:
  class_path: Distill
  init_args:
    network: LightNN
    teacher: {class_path: Teacher, init_args: {network: DeepNN}}
    losses:
      labels: CrossEntropy
      kd: {class_path: SoftTargets, init_args: {weight: 0.9}}
      maps: {class_path: FeatureRegression, init_args: {student: features}}
data: ShapesDataModule
"""
KD = (
    "there is no option --model.losses.kd.temprature; "
    "SoftTargets has temperature, standardize, warm_up, weight (did you mean "
)
LOSSES = ("AttentionTransfer, ", "SpatialCosine, ", "CrossEntropy, ", "FeatureRegression, ", "SoftTargets, ")
ANOTHER = ("--model.losses.at=AttentionTransfer", "--model.losses.at.student=[a]")
OF_LOSSES = {
    "--model.losses.kd.temprature=2": f"{KD}temperature?).",
    "model: {init_args: {losses: {maps: {init_args: {weight: 2}}, kd: {init_args: {temprature: 2}}}}}": KD,
    "model: {init_args: {losses: {kd: {init_args: {weight: 1, temperature: x}}}}}": ".kd.temperature is x, but",
    "model: {init_args: {losses: {kd: {class_path: SoftTargtes}}}}": "no 'SoftTargtes' for --model.losses.kd; ",
    "--model.losses.kdd.temperature=2": "--model.losses.kdd.temperature has no class yet; fix its name, or give its ",
    "model: {init_args: {losses: {kdd: {init_args: {weight: 3}}}}}": "--model.losses.kdd is {'init_args': {'weight': ",
    "--model.losses.more=SpatialCosine": "student must be given in --model.losses.more, as in --",
    "--model.loses.kd.weight=2": "there is no option --model.loses.kd.weight; Distill has losses, balance, cache_",
    "--model.teacher.weigts=x": "there is no option --model.teacher.weigts; Teacher has weights, config, network, ",
}


class ParsedOnly(TrainingCLI):
    def before_instantiate_classes(self) -> None: ...
    def instantiate_classes(self) -> None: ...


@pytest.fixture(scope="module")
def parser() -> LightningArgumentParser:
    return run(["--config=student.yaml"], ParsedOnly, run=False).parser


def test_the_choices_for_a_wrong_class_are_only_public_classes(
    parser: LightningArgumentParser,
) -> None:
    with pytest.raises(UserError) as error:
        parser.parse_args(["--config=student.yaml", "--trainer.callbacks=Foo"])
    offered = str(error.value).partition("choose one of ")[2]
    assert "ExportONNX, " in offered
    for name in ("RunFolder", "SaveConfig", "TrainAhead", "Measure", "KeepCheckpoint"):
        assert name not in offered


@pytest.mark.parametrize("option", MISTAKES)
def test_a_mistaken_option_is_answered_with_its_name_its_value_and_what_was_expected(
    option: str, parser: LightningArgumentParser
) -> None:
    with pytest.raises(UserError) as error:
        parser.parse_args(["--config=student.yaml", "--data=tiny.TinyDataModule", option])
    assert MISTAKES[option] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mistake", OF_LOSSES)
def test_a_mistake_in_one_of_several_losses_is_answered_with_its_name_and_what_it_takes(
    mistake: str, parser: LightningArgumentParser, tmp_path: Path
) -> None:
    config, change = tmp_path / "distill.yaml", tmp_path / "change.yaml"
    config.write_text(DISTILL)
    change.write_text(mistake)
    with pytest.raises(UserError) as error:
        parser.parse_args([f"--config={config}", mistake if mistake.startswith("--") else f"--config={change}"])
    assert OF_LOSSES[mistake] in str(error.value)
    offered = str(error.value).partition("choose one of ")[2]  # other tests may have defined losses of their own
    assert not offered or all(name in offered for name in LOSSES)
    assert "\n" not in str(error.value)


def test_an_option_of_a_loss_is_set_by_the_losss_name(parser: LightningArgumentParser, tmp_path: Path) -> None:
    config = tmp_path / "distill.yaml"
    config.write_text(DISTILL)
    changes = ["--model.losses.kd.temperature=2", *ANOTHER]
    losses = parser.parse_args([f"--config={config}", *changes]).model.init_args.losses
    assert list(losses) == ["labels", "kd", "maps", "at"]
    assert (losses["kd"].init_args.temperature, losses["kd"].init_args.weight) == (2.0, 0.9)
    assert losses["at"].init_args.student == ["a"]


CONFIGS = {
    "trainer: {max_epocs: 3}": "in mine.yaml: there is no option --trainer.max_epocs; did you mean --",
    "modell: {class_path: Classifier}": "in mine.yaml: there is no option --modell; did you mean --model?",
    "trainer: {max_epochs: three}": f"--trainer.max_epochs is three, but {WHOLE} or null.",
    "model: {class_path: Classifier, init_args: {networ: LightNN}}": "in mine.yaml: there is no option --model.",
    "{model: {class_path: Distill, init_args: {network: LightNN}}, data: ShapesDataModule}": "teacher, losses must be ",
    "trainer: {max_epochs: 3}": "--data, --model must be given, best in a config: ",
}
STUDIES = {
    "{baseline: {config: student.yaml}, compared: [], sedes: 3}": "in mine.yaml: there is no option --sedes; did you ",
    "{baseline: {confg: student.yaml}, compared: []}": "there is no 'confg' in 'baseline'.",
    "{baseline: student.yaml, compared: []}": "'baseline' is student.yaml, but it must be a mapping, ",
}


@pytest.mark.parametrize(
    ("command", "content", "expected"),
    [*(("fit", *case) for case in CONFIGS.items()), *(("compare", *case) for case in STUDIES.items())],
)
def test_a_mistake_in_a_config_names_the_key(
    command: str, content: str, expected: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(content)
    assert main([command, "--config=mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {expected}")
    assert error.count("\n") == 1


def test_a_mistaken_option_of_a_studys_row_names_the_row(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(DISTILL)
    row = "{config: mine.yaml, name: hot, options: {model.losses.kd.temprature: 2}}"
    Path("study.yaml").write_text(f"baseline: {row}\ncompared: []\n")
    assert main(["compare", "--config=study.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: in the row 'hot', {KD}temperature?).")

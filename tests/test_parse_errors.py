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
    "--trainer.gradient_clip_val=x": f"--trainer.gradient_clip_val is x, but {NUMBER} or null.",
    "--trainer.enable_progress_bar=maybe": f"--trainer.enable_progress_bar is maybe, but {SWITCH} or null.",
    "--trainer.deterministic=maybe": "is maybe, but it must be warn or true or false or null.",
    "--trainer.log_every_n_steps=x": f"--trainer.log_every_n_steps is x, but {WHOLE} or null.",
    "--trainer.precision=half": "--trainer.precision is half, but it must be 64 or 32 or 16 or ",
    "--trainer.foo=3": "there is no option --trainer.foo=3; `--help` lists the options.",
    "--foo=3": "there is no option --foo=3; `--help` lists the options.",
    "foo": "there is no option foo; `--help` lists the options.",
    "--seed_everything=x": f"--seed_everything is x, but {SWITCH} or a whole number.",
    "--trainer.logger=Foo": "there is no 'Foo' for --trainer.logger; give an import path such as my_package.MyClass.",
    "--trainer.callbacks=[Foo]": "there is no 'Foo' for --trainer.callbacks; choose one of ",
    "--trainer.callbacks=Foo": "there is no 'Foo' for --trainer.callbacks; choose one of ",
    "--trainer.callbacks=[{class_path: SaveWeights, init_args: {file: x}}]": "is no option --trainer.callbacks.file; ",
    "--trainer.callbacks=[{class_path: ExportONNX, init_args: {max_drop: x}}]": f".max_drop is x, but {NUMBER}.",
    "--trainer.callbacks=[EarlyStopping]": "monitor must be given in --trainer.callbacks",
    "--model=Foo": "there is no 'Foo' for --model; choose one of ",
    "--model=torch.nn.Linear": "--model is torch.nn.Linear, but that is no Task; choose one of ",
    "--model.foo=3": "there is no option --model.foo; `--model.help CLASS` lists what a class takes.",
    "--model.fast=maybe": "--model.fast is maybe, but it must be auto or true or false.",
    "--model.lr_interval=day": "--model.lr_interval is day, but it must be auto or epoch or step.",
    "--model.network=Foo": "there is no 'Foo' for --model.network; choose one of ",
    "--model.network=nowhere.Net": "there is no 'nowhere.Net' for --model.network (No module named 'nowhere'); ",
    "--model.network=torch.nn.Linear": "--model.network is torch.nn.Linear, but that is no Network; choose one of ",
    "--model.network.widht=3": "there is no option --model.network.widht; `--model.network.help CLASS` lists",
    "--model.optimizer=Foo": "there is no 'Foo' for --model.optimizer; give an import path such as ",
    "--model.optimizer.lr=x": f"--model.optimizer.lr is x, but {NUMBER}.",
    "--model.optimizer.fused=maybe": f"--model.optimizer.fused is maybe, but {SWITCH} or null.",
    "--model.optimizer.betas=3": "--model.optimizer.betas is 3, but it must be a list.",
    "--model.optimizer.learning_rate=1": "there is no option --model.optimizer.learning_rate; ",
    "--model.lr_scheduler=StepLR": "step_size must be given in --model.lr_scheduler",
    "--data=Foo": "there is no 'Foo' for --data; choose one of ",
    "--data=ImageFolderDataModule": "root must be given in --data",
    "--data.batch_size=x": f"--data.batch_size is x, but {WHOLE}.",
    "--data.val_size=x": f"--data.val_size is x, but {NUMBER}.",
    "--data.augment=RandomCrop": "--data.augment is RandomCrop, but it must be a list.",
    "--data.augment=[RandomCrp]": "there is no 'RandomCrp' for --data.augment; choose one of ",
    "--data.augment=[{class_path: RandomCrop, init_args: {padding: x}}]": f"--data.augment.padding is x, but {WHOLE}.",
    "--data.normalize=x": "there is no 'x' for --data.normalize; choose one of imagenet, auto, or ",
    "--data.normalize={mean: [0.5, 0.5, 0.5]}": "std must be given in --data.normalize",
    "--data.normalize={mean: a, std: b}": "--data.normalize.mean is a, but it must be a list.",
}


class ParsedOnly(TrainingCLI):
    def before_instantiate_classes(self) -> None: ...
    def instantiate_classes(self) -> None: ...


@pytest.fixture(scope="module")
def parser() -> LightningArgumentParser:
    return run(["--config=student.yaml"], ParsedOnly, run=False).parser


@pytest.mark.parametrize("option", MISTAKES)
def test_a_mistaken_option_is_answered_with_its_name_its_value_and_what_was_expected(
    option: str, parser: LightningArgumentParser
) -> None:
    with pytest.raises(UserError) as error:
        parser.parse_args(["--config=student.yaml", "--data=tiny.TinyDataModule", option])
    assert MISTAKES[option] in str(error.value)
    assert "\n" not in str(error.value)


CONFIGS = {
    "trainer: {max_epocs: 3}": "a config of this command has no 'trainer.max_epocs'.",
    "modell: {class_path: Classifier}": "a config of this command has no 'modell.class_path'.",
    "trainer: {max_epochs: three}": f"--trainer.max_epochs is three, but {WHOLE} or null.",
    "model: {class_path: Classifier, init_args: {networ: LightNN}}": "there is no option --model.networ; ",
    "trainer: {max_epochs: 3}": "--data, --model must be given, best in a config: ",
}
STUDIES = {
    "{baseline: {config: student.yaml}, compard: []}": "there is no 'compard' in a study; seed_table.yaml shows",
    "{baseline: {confg: student.yaml}}": "there is no 'confg' in 'baseline'; mend the config.",
    "{baseline: student.yaml}": "'baseline' is student.yaml, but it must be a mapping, such as `baseline: {config: ",
}


@pytest.mark.parametrize(
    ("command", "content", "expected"),
    [*(("fit", *case) for case in CONFIGS.items()), *(("compare", *case) for case in STUDIES.items())],
)
def test_a_mistake_in_a_config_names_the_key(
    command: str, content: str, expected: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(content)
    assert main([command, "--config=mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {expected}")
    assert error.count("\n") == 1

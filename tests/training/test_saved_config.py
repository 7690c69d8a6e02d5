"""A run's own config can be run again, whatever of Lightning's it names."""

from inspect import isabstract
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
import lightning.pytorch.plugins
import lightning.pytorch.profilers
import lightning.pytorch.strategies
import pytest
import yaml
from training_example import NO_EXPORT, fit

from kd_lightning.cli import main

GIVEN: dict[str, dict[str, Any]] = {
    "EarlyStopping": {"monitor": "val/loss"},
    "GradientAccumulationScheduler": {"scheduling": {4: 2}},
    "ModelPruning": {"pruning_fn": "l1_unstructured", "amount": 0.1},
    "OnExceptionCheckpoint": {"dirpath": "here"},
    "StochasticWeightAveraging": {"swa_lrs": 0.1},
    "Timer": {"duration": "00:01:00:00"},
    "CSVLogger": {"save_dir": "logs"},
    "TensorBoardLogger": {"save_dir": "logs"},
    "MixedPrecision": {"precision": "bf16-mixed", "device": "cpu"},
}
"""Arguments that a class must have."""

NEEDS_MORE = (
    "ThroughputMonitor",
    "LitLogger",
    *(f"{name}Precision" for name in ("Bitsandbytes", "DeepSpeed", "TransformerEngine", "FSDP")),
)
"""Classes that must have what only Python or another library has."""


def of_lightning(module: str) -> list[dict[str, Any]]:
    """Return what a config writes for each class of one of Lightning's packages."""
    package = getattr(lightning.pytorch, module)
    kinds = [kind for name in package.__all__ if isinstance(kind := getattr(package, name), type)]
    names = sorted({kind.__name__ for kind in kinds if not isabstract(kind)} - {*NEEDS_MORE})
    return [{"class_path": f"lightning.pytorch.{module}.{name}", "init_args": GIVEN.get(name, {})} for name in names]


TRAINERS: dict[str, dict[str, Any]] = {
    "callbacks": {"callbacks": of_lightning("callbacks")},
    "loggers": {"logger": of_lightning("loggers")},
    "plugins": {"plugins": of_lightning("plugins")},
    "a profiler": {"profiler": of_lightning("profilers")[-1]},
    "a strategy": {"strategy": of_lightning("strategies")[0]},
    "one callback": {"callbacks": {"class_path": "LogGradientNorms", "init_args": {"every_n_steps": 7}}},
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_config_that_was_written_is_read_as_the_same(
    name: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, printed = {"trainer": TRAINERS[name]}, []
    for _ in range(2):
        Path("a.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(SystemExit):
            main(["fit", "--config=student.yaml", "--config=a.yaml", "--print_config"])
        output = capsys.readouterr()
        config = yaml.safe_load(output.out)
        printed.append(config)
        assert "Unable to serialize" not in output.out + output.err
    assert printed[0] == printed[1]


def test_a_run_is_run_again_by_its_own_config(temp_folder: Path) -> None:
    name = "ModelPruning"
    callback = yaml.safe_dump({"class_path": name, "init_args": GIVEN[name]}, default_flow_style=True).strip()
    fit("student.yaml", NO_EXPORT, f"--trainer.callbacks={callback}")  # one, without a list
    assert main(["fit", "--config=lightning_logs/student/version_0/config.yaml"]) == 0
    first, second = (Path(f"lightning_logs/student/version_{number}/config.yaml").read_text() for number in (0, 1))
    assert first == second
    assert [entry["class_path"].rpartition(".")[2] for entry in yaml.safe_load(first)["trainer"]["callbacks"]] == [name]

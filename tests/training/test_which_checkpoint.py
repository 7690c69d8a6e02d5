"""Which file `--ckpt_path` means, and that nothing untrained is measured."""

import shutil
from pathlib import Path

import pytest
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.cli import main
from kd_lightning.training.cli import run


def test_test_and_validate_name_the_newest_checkpoint_instead_of_measuring_an_untrained_network(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config=student.yaml", *TINY]
    for options in (["validate"], ["test", "--ckpt_path=best"], ["fit", "--ckpt_path=last"]):
        assert main([options[0], *command, *options[1:]]) == 2
        error = capsys.readouterr().err
        assert "no run in lightning_logs/student has one yet: train with `kd-lightning fit --conf" in error
    for number in (2, 10):
        folder = Path(f"lightning_logs/student/version_{number}/checkpoints")
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
    assert main(["test", *command]) == 2
    assert "add --ckpt_path lightning_logs/student/version_10/checkpoints/last.ckpt, the" in capsys.readouterr().err


def test_last_is_the_newest_run_of_the_config_and_a_runs_own_config_means_that_run(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit("student.yaml", NO_EXPORT, "--trainer.default_root_dir=here")
    runs = Path("here/lightning_logs/student")
    shutil.copytree(runs / "version_0", runs / "version_3")
    (runs / "version_7").mkdir()
    options = [*TINY, NO_EXPORT, "--trainer.default_root_dir=here", "--trainer.max_epochs=3"]
    capsys.readouterr()
    resumed = run(["fit", "--config=student.yaml", *options, "--ckpt_path=last"])
    assert resumed.trainer.global_step == first.trainer.global_step * 3 // 2
    assert f"Checkpoint: {runs}/version_3/checkpoints/last.ckpt" in capsys.readouterr().out
    assert main(["test", f"--config={runs}/version_0/config.yaml", "--ckpt_path=best"]) == 0
    assert f"Checkpoint: {runs}/version_0/checkpoints/best.ckpt" in capsys.readouterr().out


def test_a_weight_file_is_measured_as_the_run_that_wrote_it_was(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = fit("student.yaml", NO_EXPORT)
    weights = "--ckpt_path=lightning_logs/student/version_0/NNLight.pth"
    tested = run(["test", "--config=student.yaml", *TINY, weights])
    for name in ("test/accuracy", "test/loss"):
        assert float(tested.trainer.callback_metrics[name]) == float(fitted.trainer.callback_metrics[name])
    assert main(["validate", "--config=student.yaml", *TINY, weights, "--data.normalize=imagenet"]) == 2
    assert "NNLight.pth was trained on pixels normalized by" in capsys.readouterr().err
    assert main(["test", "--config=student.yaml", *TINY, weights, "--trainer.limit_test_batches=0"]) == 2
    assert "nothing would be measured" in capsys.readouterr().err
    part = ["--data.eval_batch_size=50", "--trainer.limit_test_batches=1"]
    assert main(["test", "--config=student.yaml", *TINY, weights, *part]) == 0
    assert "Measured on 50 of 120 images." in capsys.readouterr().out
    teacher = "--model.teacher.weights=lightning_logs/student/version_0/NNLight.pth"
    command = ["test", "--config=regress.yaml", *TINY, weights, teacher, "--model.teacher.network=LightNN"]
    assert main(command) == 2
    assert (
        "only the network, but FeatureRegressDistill also measures the trained parameters of its losses (losses."
        in capsys.readouterr().err
    )

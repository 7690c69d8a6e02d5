"""The command compare: its runs are paired, kept, reused, stopped, failed; in this process and in others."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from plain_module import PlainNet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

import kd_lightning
from kd_lightning.cli import main
from kd_lightning.commands import compare as command
from kd_lightning.compare import measure
from kd_lightning.compare.digests import row_digests
from kd_lightning.compare.pool import Pool
from kd_lightning.compare.results import Row, Study
from kd_lightning.compare.row_config import RowConfig, as_text
from kd_lightning.compare.rows import plan_rows
from kd_lightning.compare.study import read_request
from kd_lightning.compare.worker import Job, run_job
from kd_lightning.errors import UserError
from kd_lightning.networks import DeepNN, Network
from kd_lightning.report import figures, outputs
from kd_lightning.report.analysis import Analysis, analyse
from kd_lightning.report.page import to_page
from kd_lightning.report.text import to_markdown
from kd_lightning.tasks import Classifier

TINY = ["--data=tiny.TinyDataModule", "--data.batch_size=32", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]
CONFIGS = Path(__file__).parents[2] / "configs"


class Trouble(Callback):
    """Fails, dies or hangs while there is a file of that name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not Path(self.kind).exists():
            return
        if self.kind == "fail":
            raise RuntimeError("out of luck")
        if self.kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        Path("hanging").write_text(str(os.getpid()))
        time.sleep(600)


class InThisProcess(Pool):
    """Replaces the pool: importing torch in a process of its own takes longer than all runs of a test."""

    started: list[str]
    studies: list[Study]
    ended: list[tuple[Job, str | None]]

    def start(self, job: Job) -> None:
        self.started.append(f"{job.row} {job.seed}")
        shutil.rmtree(job.folder, ignore_errors=True)  # as in a process of its own
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            run_job(job)
            self.ended.append((job, None))
        except Exception as error:
            self.ended.append((job, str(error)))
        torch.set_num_threads(before)

    def wait(self, seconds: float) -> list[tuple[Job, str | None]]:
        return [self.ended.pop() for _ in range(len(self.ended))]


def keep(analysis: Analysis, folder: Path) -> list[Path]:
    """Replace the report: it is drawn in tests of its own."""
    InThisProcess.studies.append(analysis.study)
    return [folder / "report.html"]


@pytest.fixture
def in_process(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run in this process, in an empty folder; return the runs that were done."""
    InThisProcess.started, InThisProcess.studies, InThisProcess.ended = [], [], []
    monkeypatch.setattr(command, "Pool", InThisProcess)
    monkeypatch.setattr(command, "write_report", keep)
    return InThisProcess.started


def write_configs() -> None:
    """Write configs that export nothing: one like the student, one that ignores its teacher, and three in trouble."""
    student = yaml.safe_load((CONFIGS / "student.yaml").read_text())
    Path("same.yaml").write_text(yaml.safe_dump(student))
    ignoring = yaml.safe_load((CONFIGS / "regress.yaml").read_text())
    ignoring["model"]["init_args"] |= {"ce_loss_weight": 1.0, "feature_map_weight": 0.0}
    Path("ignoring.yaml").write_text(yaml.safe_dump(ignoring))
    for kind in ("fail", "die", "hang"):
        student["trainer"]["callbacks"] = [{"class_path": "test_compare_runner.Trouble", "init_args": {"kind": kind}}]
        Path(f"{kind}.yaml").write_text(yaml.safe_dump(student))


def write_study(*compared: str, **more: Any) -> None:
    study = {"baseline": {"config": "student.yaml", "reported": 66.32}, "onnx": False, **more}
    study["compared"] = [{"config": f"{name}.yaml"} for name in compared]
    Path("study.yaml").write_text(yaml.safe_dump(study))


def compare(*options: str, seeds: int = 2, output: str = "out", status: int = 0) -> Study:
    args = ["compare", "--config", "study.yaml", f"--seeds={seeds}", f"--output={output}", *TINY, *options]
    assert main(args) == status
    return InThisProcess.studies[-1]


def numbers(row: Row) -> list[Any]:
    """Return all measures of a row's runs except times, sizes and the teacher's accuracy."""
    still = [
        replace(run, training_seconds=0.0, onnx_bytes=None, latency_ms=None, teacher_accuracy=None) for run in row.runs
    ]
    return [*(run.to_plain() for run in still), *(run.correct.tolist() for run in still)]


def test_runs_are_paired_measured_kept_and_reported(
    in_process: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "write_report", lambda *args: [*keep(*args), *outputs.write_report(*args)])
    for name in set(figures.PLOTS) - {"accuracy"}:  # these have tests of their own
        monkeypatch.setitem(figures.PLOTS, name, replace(figures.PLOTS[name], panels=lambda _: []))
    write_configs()
    write_study("same", "ignoring", teacher={"config": "teacher.yaml"}, onnx=True)
    study = compare()
    teacher, student, same, ignoring = study.rows
    assert len(in_process) == 2 + 2 + 2  # the row with the baseline's config needs no runs of its own
    assert numbers(same) == numbers(student)
    # a student that ignores its teacher starts from the same weights, sees the same batches and drops out the same
    assert numbers(ignoring) == numbers(student)
    assert numbers(student)[0] != numbers(student)[1]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Plan: 2 seeds (0 to 1), looked at once (out/plan.json). No verdict, because 2 seeds are too few" in printed
    assert "same no verdict (2 seeds are too few): 0.00 points (0.00 to 0.00)" in printed

    first, second = student.runs
    assert first.curves.epochs == (1, 2)
    assert len(first.curves.val_loss) == len(first.curves.train_accuracy) == 2
    assert 0 < first.curves.train_loss[1] < 3
    assert first.teacher_agreement is not None  # though it has no teacher
    assert teacher.runs[0].teacher_agreement is None
    assert ignoring.runs[0].teacher_accuracy == teacher.runs[0].test_accuracy
    assert first.teacher_accuracy is None
    assert teacher.runs[0].parameters == sum(values.numel() for values in DeepNN(4, 3, 8).parameters())
    assert (first.onnx_bytes is not None, first.latency_ms is not None) == (True, True)
    assert second.onnx_bytes is None  # one export a row
    assert student.reported == pytest.approx(0.6632)
    assert study.settings.protocol.startswith("114 images train, 6 validate; the 120 test images")
    for name in ("report.html", "report.md", "report.csv", "runs.csv", "report.json", "figures/accuracy.png"):
        assert Path("out", name).stat().st_size > 0

    events = EventAccumulator("out/logs/student/seed_0").Reload()
    assert {"final/test_accuracy", "val/accuracy"} <= set(events.Tags()["scalars"])
    shown = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for part in (b"row", b"seed", b"model", b"Classifier", b"model.optimizer.lr"):
        assert part in shown
    assert b"data.channels" not in shown  # the same in every row


def test_finished_runs_are_reused_for_more_seeds_and_other_teachers(in_process: list[str]) -> None:
    write_study("cosine", teacher={"config": "teacher.yaml"}, teachers="one")
    before = compare(seeds=1)
    assert sorted(in_process) == ["cosine 0", "student 0", "teacher 0"]
    in_process.clear()
    study = compare(seeds=2)
    assert sorted(in_process) == ["cosine 1", "student 1"]
    assert study.settings.teacher == "one for all seeds"
    assert [len(row.runs) for row in study.rows] == [1, 2, 2]
    assert [row.runs[0].to_plain() for row in study.rows] == [row.runs[0].to_plain() for row in before.rows]
    in_process.clear()
    compare("--teachers=per_seed", seeds=2)
    assert in_process == ["teacher 1", "cosine 1"]  # seed 0 has its own already


def test_python_runs_a_study_and_the_command_resumes_it(in_process: list[str]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    write_configs()
    write_study("same")
    options = {name.removeprefix("--"): value for name, value in (word.split("=") for word in TINY)}
    study = kd_lightning.compare("study.yaml", seeds=3, output=Path("out"), options=options)
    assert torch.equal(torch.get_rng_state(), before)
    assert [(row.name, row.role, row.runs, row.verdict) for row in study.rows] == [
        ("student", "baseline", 3, None),
        ("same", "student", 3, "inconclusive"),
    ]
    assert study.rows[1].difference == 0
    in_process.clear()
    shown = analyse(compare(seeds=3)).rows
    assert in_process == []
    assert [row.mean for row in study.rows] == [found.measures["test_accuracy"].mean for found in shown]  # type: ignore[union-attr]


def test_rows_and_seeds_added_after_the_plan_have_no_verdict_and_change_none(
    in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_configs()
    write_study("same", "die")
    planned = analyse(compare(seeds=3)).compared
    assert "3 seeds (0 to 2), looked at once, 2 rows" in " ".join(capsys.readouterr().out.split())
    assert [by.outcome for _, by in planned] == ["inconclusive", "inconclusive"]
    more = analyse(compare(seeds=4)).compared
    assert "Seeds from 3 on are more than planned: they change no verdict." in capsys.readouterr().out
    assert [len(row.runs) for row, _ in more] == [4, 4]
    assert [(by.test, by.adjusted_p, by.verdict) for _, by in more] == [
        (by.test, by.adjusted_p, by.verdict) for _, by in planned
    ]
    assert more[0][1].sentence().endswith("with all 4 seeds 0.00 (exploratory)")
    write_study("same", "die", "fail")
    added = [by.outcome for _, by in analyse(compare(seeds=3)).compared]
    assert added == ["inconclusive", "inconclusive", "no verdict (it was not in the study's plan)"]
    printed = capsys.readouterr().out
    assert "No verdict on fail: it was not in the study's plan.\nA new study has new seeds, and verdicts:\n" in printed
    assert " --output out_2 --first_seed 4 --seeds 5\n" in printed.replace(" \\\n   ", "")
    changed = analyse(compare("--trainer.max_epochs=1", seeds=1)).compared
    assert all("it is not what was planned" in by.outcome for _, by in changed[:2])


def test_a_study_stops_at_the_first_look_that_calls_all_its_rows(in_process: list[str]) -> None:
    spoilt = {"config": "student.yaml", "name": "spoilt", "options": {"model.optimizer.lr": 0.0}}
    Path("study.yaml").write_text(
        yaml.safe_dump({"baseline": {"config": "student.yaml"}, "onnx": False, "looks": [4, 5], "compared": [spoilt]})
    )
    args = ["compare", "--config", "study.yaml", "--output=out", *TINY, "--model.optimizer.lr=1e-3"]
    assert main([*args, "--trainer.max_epochs=5"]) == 0
    ((row, by),) = analyse(InThisProcess.studies[-1]).compared
    assert (by.outcome, len(row.runs)) == ("hurts", 4)


def test_a_change_repeats_the_runs_that_it_touches(in_process: list[str]) -> None:
    write_configs()
    write_study("same")
    compare(seeds=1)
    assert in_process == ["student 0"]
    config = Path("same.yaml").read_text()
    Path("same.yaml").write_text(config.replace("lr: 5.0e-05", "lr: 0.001"))
    assert Path("same.yaml").read_text() != config
    compare(seeds=1)
    assert in_process == ["student 0", "same 0"]
    compare("--data.count=100", seeds=1)
    assert in_process[2:] == ["student 0", "same 0"]


def test_a_failed_run_is_reported_with_those_that_need_it_and_does_not_end_the_others(
    in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_configs()
    write_study("cosine", teacher={"config": "fail.yaml", "name": "teacher"})
    Path("fail").touch()
    study = compare("--model.network=DeepNN", seeds=1, status=1)
    assert Path("out/plan.json").is_file()
    assert [[failure.reason for failure in row.failures] for row in study.rows] == [
        ["out of luck"],
        [],
        ["its teacher (seed 0) failed"],
    ]
    assert [len(row.runs) for row in study.rows] == [0, 1, 0]
    assert "teacher, seed 0: failed: out of luck" in capsys.readouterr().out
    Path("fail").unlink()
    assert [len(row.runs) for row in compare("--model.network=DeepNN", seeds=1).rows] == [1, 1, 1]
    assert in_process == ["teacher 0", "student 0", "teacher 0", "cosine 0"]  # only those that failed


def test_runs_of_another_version_of_this_package_are_reused_and_named(
    in_process: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configs()
    write_study("die")
    assert compare(seeds=1).settings.other_versions == ""
    with monkeypatch.context() as upgraded:
        upgraded.setattr(measure, "package_version", lambda: "0.0.9 (old)")
        compare(seeds=2)
    capsys.readouterr()
    study = compare(seeds=2)
    assert in_process == ["student 0", "die 0", "student 1", "die 1"]  # none of them again
    printed = capsys.readouterr().out
    assert printed.count("reused, made by kd_lightning 0.0.9 (old)") == 2
    note = "Other versions of kd_lightning made 2 runs by 0.0.9 (old); this is 0.1.0 ("
    for text in (" ".join(printed.split()), to_page(analyse(study)), to_markdown(analyse(study))):
        assert note in text
        assert "To do all runs again with this version, remove out/runs." in text


@pytest.fixture
def killed_study(temp_folder: Path) -> Iterator[Callable[[], str]]:
    """Start a study of two rows in trouble with two processes; kill it while one hangs, and give what it printed."""
    write_configs()
    write_study("die", "hang")
    for trouble in ("die", "hang"):
        Path(trouble).touch()
    command = [sys.executable, "-m", "kd_lightning", "compare", "--config", "study.yaml", "--seeds=1", "--output=out"]
    places = os.pathsep.join(map(str, (CONFIGS.parent, CONFIGS.parent / "tests", Path(__file__).parent)))
    with Path("printed").open("w") as printed:
        process = subprocess.Popen(
            [*command, "--jobs=2", "--threads=1", *TINY],
            env={**os.environ, "PYTHONPATH": places},
            stdout=printed,
            stderr=printed,
        )

    def kill() -> str:
        try:
            while process.poll() is None and not (Path("hanging").exists() and "die, seed 0" in text()):
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        return text()

    def text() -> str:
        return Path("printed").read_text()

    yield kill
    process.kill()
    process.wait()


def test_a_killed_study_goes_on_and_ends_with_the_numbers_of_an_undisturbed_one(
    killed_study: Callable[[], str], in_process: list[str]
) -> None:
    printed = killed_study()
    assert "die, seed 0: failed: its process was killed" in printed
    worker = int(Path("hanging").read_text())
    while alive(worker):  # ends with the process that started it
        time.sleep(0.02)
    for trouble in ("die", "hang"):
        Path(trouble).unlink()
    study = compare("--threads=1", seeds=1)
    assert in_process == ["die 0", "hang 0"]
    undisturbed = compare("--threads=1", seeds=1, output="undisturbed")
    assert in_process[2:] == ["student 0", "die 0", "hang 0"]
    assert [numbers(row) for row in study.rows] == [numbers(row) for row in undisturbed.rows]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    status = Path(f"/proc/{pid}/status")
    if Path("/proc").is_dir():
        return status.exists() and "State:\tZ" not in status.read_text()
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0


class Branching(PlainNet):
    """Cannot be exported: what it does depends on the values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.sum() > 0 else -images)


def test_a_module_of_the_users_own_is_measured_as_onnx_or_the_report_has_the_reason(
    in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, branching = (
        {"model.network": "ModuleNetwork", "model.network.module": f"{kind.__module__}.{kind.__name__}"}
        for kind in (PlainNet, Branching)
    )
    rows = [{"config": "student.yaml", "name": name, "options": plain} for name in ("plain", "again")]
    rows.append({"config": "student.yaml", "name": "branching", "options": branching})
    write_study(baseline=rows[0], onnx=True)
    study = yaml.safe_load(Path("study.yaml").read_text()) | {"compared": rows[1:]}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    first, again, last = compare(seeds=1).rows
    assert first.runs[0].onnx_bytes
    assert (again.runs[0].onnx_bytes, again.no_costs) == (first.runs[0].onnx_bytes, "")
    assert last.runs[0].onnx_bytes is None
    note = "branching has no ONNX size and latency, because Branching cannot be exported to ONNX ("
    analysis = analyse(InThisProcess.studies[-1])
    for form in (to_page(analysis), to_markdown(analysis)):
        assert form.count(note) == 1
        assert "plain has no ONNX size" not in form
    assert "branching: no ONNX size and latency" in capsys.readouterr().out


EARLY = "lightning.pytorch.callbacks.EarlyStopping"
KINDS: dict[str, dict[str, Any]] = {
    "classes": {"data.augment": ["RandomCrop", {"class_path": "HorizontalFlip", "init_args": {"probability": 1}}]},
    "a dataclass, a callable and a schedule": {
        "data.normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        "model.optimizer": "torch.optim.SGD",
        "model.optimizer.lr": "1e-2",
        "model.lr_scheduler": "OneCycle",
        "trainer.gradient_clip_val": math.inf,
    },
    "a callback, and steps in place of epochs": {
        "trainer.callbacks": {"class_path": EARLY, "init_args": {"monitor": "val/loss"}},
        "trainer.max_steps": 5,
        "trainer.max_epochs": -1,
        "trainer.precision": "bf16-mixed",
    },
    "plain values": {"model.network": "tiny.TinyNetwork"},
    "callbacks that a study leaves out": {"trainer.callbacks": ["ModelCheckpoint", "RichProgressBar"]},
}


class TaskWithAnything(Classifier):
    """A task whose signature and config hold values that JSON does not have."""

    def __init__(self, network: Network, function: Any = lambda x: x, values: Any = None) -> None:
        super().__init__(network)


@pytest.mark.filterwarnings("ignore:::jsonargparse")  # of values that it cannot write, which this is about
def test_configs_with_every_kind_of_value_are_run_and_recognized(in_process: list[str]) -> None:
    kinds: list[dict[str, Any]] = [
        {"config": "student.yaml", "name": name, "options": options} for name, options in KINDS.items()
    ]
    anything = "{day: 2020-01-31, time: 2001-12-14t21:59:43Z, big: 1_000_000_000_000_000, nothing: null, x: .nan}"
    model = f"{{class_path: test_compare_runner.TaskWithAnything, init_args: {{values: {anything}}}}}"
    Path("anything.yaml").write_text(f"model: {model}")
    kinds[3]["config"] = "anything.yaml"
    study = {"baseline": {"config": "student.yaml"}, "onnx": False, "compared": kinds}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    found = compare(seeds=1)
    assert in_process == ["student 0", *(f"{name} 0" for name in list(KINDS)[:-1])]  # the last is the baseline's run
    assert [len(row.runs) for row in found.rows] == [1] * 6
    assert found.settings.epochs == 2
    assert len(found.rows[3].runs[0].curves.epochs) == 2  # five steps of four an epoch
    again = compare(seeds=1)
    assert len(in_process) == 5
    assert [numbers(row) for row in again.rows] == [numbers(row) for row in found.rows]


WORDS = ["null", "1e-3", "a b", "", "\N{PACKAGE}", 'it\'s "x"', "# no"]
VALUES: list[Any] = [
    None,
    True,
    7,
    10**30,
    1e-3,
    1e-05,
    1e30,
    -math.inf,
    {},
    [],
    WORDS,
    {"a: b": [{"x": None}], "1": "["},
]


def test_the_text_of_an_option_is_read_as_its_value() -> None:
    parser = ArgumentParser()
    parser.add_argument("--x", type=Any)
    for value in VALUES:
        assert parser.parse_args([f"--x={as_text(value)}"]).x == value


BASELINE = "baseline: {config: student.yaml}\ncompared: "
SCALED = "[{config: cosine.yaml, options: {data.normalize: imagenet}}]"
MISTAKES = {
    "a config with a baseline": ("--config=quickstart.yaml", "", "quickstart.yaml is not a study"),
    "no seeds": ("--seeds=0", f"{BASELINE}[]", "--seeds is 0"),
    "no option": ("--foo=1", f"{BASELINE}[]", "there is no option --foo"),
    "same names": ("", f"{BASELINE}[{{config: student.yaml}}]", "two rows of the study are called 'student'"),
    "no option of a run": ("", f"{BASELINE}[]\noptions: {{seeds: 2}}", "the study has the option 'seeds'"),
    "an option that a row lacks": (
        "",
        f"{BASELINE}[]\noptions: {{model.losses.kd.weight: 2}}",
        "in the row 'student', there is no option --model.losses",
    ),
    "some test images": ("--trainer.limit_test_batches=.5", f"{BASELINE}[]", "has trainer.limit_test_batches 0.5"),
    "no such strategy": ("--trainer.strategy=tpu", f"{BASELINE}[]", "--trainer options do not fit"),
    "another teacher": (
        "",
        f"teacher: {{config: student.yaml, name: big}}\n{BASELINE}[{{config: cosine.yaml}}]",
        "the study's teacher is a LightNN(",
    ),
    "other pixels than the teacher's": (
        "--data=tiny.TinyDataModule",
        f"{BASELINE}{SCALED}\nteacher: {{config: teacher.yaml}}",
        "the row 'cosine' was trained on pixels",
    ),
    "a set": (
        "",
        f"{BASELINE}[{{config: cosine.yaml, options: {{data.augment: !!set {{a}}}}}}]",
        "but it must be a number, a text, a list or a mapping",
    ),
    "no data": ("--data.root=nowhere", f"{BASELINE}[]\noptions: {{data: ImageFolderDataModule}}", "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence_before_anything_runs(
    mistake: str, in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    option, study, expected = MISTAKES[mistake]
    Path("study.yaml").write_text(study)
    assert main(["compare", *(["--config=study.yaml"] if study else []), *filter(None, [option])]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_options_of_runs_are_separated_from_those_of_the_study() -> None:
    request = read_request(
        ["--config", "notebook_table.yaml", "--data.val_size", "0", "--seeds", "3", "--trainer.max_epochs=2"]
    )
    assert request.each_run == ("--data.val_size", "0", "--trainer.max_epochs=2")
    assert (request.name, request.study.seeds) == ("notebook_table", 3)
    assert [row.reported for row in request.study.rows] == [71.77, 66.32, 65.00, 65.98]
    first_line = (CONFIGS / "notebook_table.yaml").read_text().splitlines()[0]
    assert read_request(first_line.removeprefix("# kd-lightning compare ").split()).study.seeds == 5
    with pytest.raises(UserError, match="needs a study"):
        read_request(["--seeds=3"])


def test_options_of_the_study_are_those_of_each_row_and_give_the_same_runs(temp_folder: Path) -> None:
    def digests(shared: dict[str, Any], each: dict[str, Any], *args: str) -> tuple[list[str], dict[str, str]]:
        own = {"cosine": {"model.hidden_rep_loss_weight": 0.5, "data.batch_size": 16}}
        options = {name: each | own.get(name, {}) for name in ("teacher", "student", "cosine")}
        teacher, *rows = ({"config": f"{name}.yaml", "options": options[name]} for name in options)
        study = {"teacher": teacher, "baseline": rows[0], "compared": rows[1:], "options": shared}
        Path("study.yaml").write_text(yaml.safe_dump(study))
        request = read_request(["--config=study.yaml", "--data=tiny.TinyDataModule", "--teachers=one", *args])
        planned = plan_rows(request)
        return [row.key(0, None, 1) for row in planned], row_digests(planned, request.study)

    values: dict[str, Any] = {"trainer.max_epochs": 3, "data.batch_size": 32, "data.views": None}
    assert digests(values, {}) == digests({}, values)
    epochs = digests(values, {}, "--trainer.max_epochs=2")
    assert epochs == digests({}, values | {"trainer.max_epochs": 2})  # the command line overrides the study's
    assert len({*epochs[0], *digests(values, {})[0]}) == 6


def test_a_study_without_a_teacher_takes_the_newest_that_fit_has_trained(
    in_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_study("cosine")
    args = ["compare", "--config=study.yaml", "--seeds=1", "--output=out", *TINY]
    assert main(args) == 2
    words = "the row 'cosine' learns from a teacher that is not there yet; train it first with `kd-lightning fit"
    assert words in capsys.readouterr().err
    assert main(["fit", "--config=teacher.yaml", *TINY]) == 0
    study = compare(seeds=1)
    assert "Teacher: lightning_logs/teacher/version_0/NNDeep.pth (DeepNN trained on Tiny" in capsys.readouterr().out
    assert study.rows[1].runs[0].teacher_agreement is not None
    compare(seeds=1)
    assert in_process == ["student 0", "cosine 0"]
    assert main(["fit", "--config=teacher.yaml", "--seed_everything=1", *TINY]) == 0
    compare(seeds=1)
    assert in_process[2:] == ["cosine 0"]  # another teacher


def test_the_shipped_studies_can_be_planned(temp_folder: Path) -> None:
    studies = [path.name for path in CONFIGS.glob("*.yaml") if "compared" in yaml.safe_load(path.read_text())]
    names = (
        "best_lightnn",
        "levers",
        "losses",
        "notebook_table",
        "quickstart_compare",
        "temperature",
        "variants",
        "views",
    )
    assert sorted(studies) == [f"{name}.yaml" for name in names]
    for name in studies:
        request = read_request([f"--config={name}", *TINY])
        teacher = request.study.teacher or RowConfig("middle_teacher.yaml")
        rows = plan_rows(replace(request, study=replace(request.study, teacher=teacher)))
        assert any(row.learns for row in rows)

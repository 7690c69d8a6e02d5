"""The report's forms and a study on disk."""

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare_example import example_run, example_study, with_failure, with_rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from scipy import stats

from kd_lightning.compare.results import Curves, Row, Run, Study
from kd_lightning.compare.row_config import RowConfig
from kd_lightning.compare.store import read_run, write_run
from kd_lightning.data.class_names import CIFAR10_CLASSES
from kd_lightning.errors import UserError
from kd_lightning.report.analysis import Analysis, analyse
from kd_lightning.report.figures import MAX_ROWS, fewer_rows
from kd_lightning.report.latex import to_latex
from kd_lightning.report.outputs import write_report
from kd_lightning.report.panel import Panel, to_svg
from kd_lightning.report.plots import accuracy_plot, classes_plot, costs_plot, curves_plot
from kd_lightning.report.tables import headline, method
from kd_lightning.report.text import runs_to_csv, to_csv, to_json, to_markdown, to_terminal


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(example_study())


def printed(analysis: Analysis, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(to_terminal(analysis))
    return console.export_text()


def drawn(panel: Panel) -> Axes:
    axes = Figure().add_subplot()
    panel.draw(axes)
    return axes


def diverged(study: Study) -> Study:
    """Give the last row's first run a loss that is not a number."""
    *others, last = study.rows
    curves = replace(last.runs[0].curves, train_loss=(math.nan,) * len(last.runs[0].curves.epochs))
    broken = replace(last.runs[0], test_loss=math.nan, curves=curves)
    return replace(study, rows=(*others, replace(last, runs=(broken, *last.runs[1:]))))


def test_a_run_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    run = replace(example_run(3, 0.6), test_loss=math.inf)
    write_run(run, tmp_path / "run.json")
    back = read_run(tmp_path / "run.json")
    assert back.to_plain() == run.to_plain()
    assert np.array_equal([back.labels, back.predicted], [run.labels, run.predicted])


@pytest.mark.parametrize("broken", ["run.json", "run.npy"])
def test_a_damaged_run_is_refused_in_one_sentence(tmp_path: Path, broken: str) -> None:
    write_run(example_run(0, 0.6), tmp_path / "run.json")
    whole = (tmp_path / broken).read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        (tmp_path / broken).write_bytes(content)
        with pytest.raises(UserError, match=r"run\.json is not a finished run"):
            read_run(tmp_path / "run.json")
    (tmp_path / broken).unlink()
    with pytest.raises(UserError, match="not a finished run"):
        read_run(tmp_path / "run.json")


def test_the_predictions_of_a_run_are_never_unpickled(tmp_path: Path) -> None:
    write_run(example_run(0, 0.6), tmp_path / "run.json")
    np.save(tmp_path / "run.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="not a finished run"):
        read_run(tmp_path / "run.json")


def test_the_headline_answers_first() -> None:
    study = example_study()
    baseline, cosine, regress = study.rows[1:]
    assert headline(analyse(study)) == (
        "cosine hurts: \N{MINUS SIGN}1.02 points against student. "
        "Inconclusive after 5 seeds: whether regress differs from student."
    )
    swapped = (replace(baseline, role="student"), replace(cosine, role="baseline"))
    assert headline(analyse(with_rows(study, *swapped))) == "student helps: +1.02 points against cosine."
    both = (*swapped, regress)
    assert headline(analyse(with_rows(study, *both))).startswith("student and regress help, ")
    assert headline(analyse(example_study(seeds=[0]))) == "cosine and regress: no verdict (1 seed is too few)."
    assert headline(analyse(with_rows(study, baseline))) == "Nothing is compared to student."


def test_the_terminal_report_fits_80_columns(analysis: Analysis) -> None:
    text = printed(analysis)
    assert "…" not in text
    assert text.startswith("cosine hurts")
    assert "64.38 ± 0.29" in text
    assert "66.32" in text
    assert "inconclusive" in text
    assert "new seeds would find a difference this large" in " ".join(text.split())


def test_the_measures_of_many_rows_are_printed_whole_in_tables_of_a_few_rows() -> None:
    study = example_study(seeds=[0, 1])
    more = tuple(replace(study.rows[-1], name=f"row {number}") for number in range(8))
    found = analyse(with_rows(study, *study.rows, *more))
    text = printed(found)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert text.count("Calibration error") == 3
    losses = [row.measures["test_loss"] for row in found.rows]
    shown = [f"{loss.mean:.3f} \N{PLUS-MINUS SIGN} {loss.std:.3f}" for loss in losses if loss and loss.std is not None]
    assert len(shown) == 12
    assert all(loss in text for loss in shown)


def test_markdown_has_every_column_in_every_line_and_no_name_breaks_it() -> None:
    study = example_study(seeds=range(2))
    renamed = replace(study.rows[2], name="a|b <b>c")
    text = to_markdown(analyse(with_rows(study, *study.rows[:2], renamed, study.rows[3])))
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "a\\|b &lt;b>c" in text
    assert study.settings.command in text
    assert "torch 2.14.1" in text


def test_latex_has_the_numbers_of_the_results_and_no_name_breaks_it(analysis: Analysis) -> None:
    study = example_study()
    cosine = replace(study.rows[2], name=r"50 % & a_b\c $x^2${~}#")
    text = to_latex(analyse(with_rows(study, *study.rows[:2], cosine, study.rows[3])))
    name = r"50 \% \& a\_b\textbackslash{}c \$x\textasciicircum{}2\$\{\textasciitilde{}\}\#"
    assert (
        rf"    {name} & 64.38 $\pm$ 0.29 & 65.00 & $-$1.02 & $-$1.30 to $-$0.74 & 0.001 & hurts \\" in text.splitlines()
    )
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    cells = [line.replace(r"\&", "").count("&") for line in text.splitlines() if line.endswith(r"\\")]
    assert cells == [len(columns) - 1] * 5
    assert "over 5 runs" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_csv_has_six_digits_of_fractions_and_all_of_counts(analysis: Analysis) -> None:
    numbers = re.findall(r"(?<=,)-?\d+(?:\.\d+)?(?:e-\d+)?(?=,)", to_csv(analysis) + runs_to_csv(analysis))
    assert len(numbers) > 200
    assert all(len(re.sub("^-?0?\\.0*|e.*|\\.", "", number)) <= 6 for number in numbers if "." in number)
    assert "1186986" in numbers


def test_a_lone_surrogate_in_the_command_stops_no_form_of_the_report(tmp_path: Path) -> None:
    study = example_study(seeds=[])
    settings = replace(study.settings, command="compare --data.root caf\udce9")
    write_report(analyse(replace(study, settings=settings)), tmp_path)
    assert r"caf\udce9" in (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\\\", "\\")
    assert r"caf\udce9" in (tmp_path / "report.html").read_text(encoding="utf-8")
    plain = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert plain["study"]["settings"]["command"] == settings.command


@pytest.mark.parametrize("name", ["\x1b[31m", "two\nlines", "caf\udce9"])
def test_a_row_whose_name_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="give it another `name`"):
        RowConfig("cosine.yaml", name)


def test_the_runs_in_csv_give_the_reported_statistics_again(analysis: Analysis) -> None:
    runs = list(csv.DictReader(io.StringIO(runs_to_csv(analysis))))
    accuracies = {
        name: [float(run["test_accuracy"]) for run in runs if run["row"] == name] for name in ("student", "cosine")
    }
    test = stats.ttest_rel(accuracies["cosine"], accuracies["student"])
    line = next(line for line in csv.DictReader(io.StringIO(to_csv(analysis))) if line["row"] == "cosine")
    assert float(line["p_value"]) == pytest.approx(test.pvalue, rel=1e-5)
    interval = (float(line["difference_low"]), float(line["difference_high"]))
    assert interval == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-5)
    assert float(line["test_accuracy_mean"]) == pytest.approx(np.mean(accuracies["cosine"]))
    assert (line["verdict"], line["runs"]) == ("hurts", "5")


@pytest.mark.parametrize("form", [to_csv, runs_to_csv])
def test_names_that_look_like_numbers_or_nothing_stay_names_in_csv_and_json(form: Callable[[Analysis], str]) -> None:
    names, study = ("NA", "nan", "001", "1e3"), example_study(seeds=range(2))
    rows = [replace(row, name=name) for row, name in zip(study.rows, names, strict=True)]
    analysis = analyse(replace(with_rows(study, *rows), class_names=("NA", "nan", "001", *study.class_names[3:])))
    head, *lines = csv.reader(io.StringIO(form(analysis)), quoting=csv.QUOTE_NONNUMERIC)
    assert {line[0] for line in lines} == set(names)  # what is not quoted would be read as a number, or refused
    accuracy = head.index("test_accuracy" if form is runs_to_csv else "test_accuracy_mean")
    assert all(isinstance(line[accuracy], float) for line in lines)
    plain = json.loads(to_json(analysis))["study"]
    assert [row["name"] for row in plain["rows"]] == list(names)
    assert plain["class_names"][:3] == ["NA", "nan", "001"]


def test_json_holds_the_whole_study_and_is_strict_even_after_a_diverged_run() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    study = diverged(example_study())
    plain = json.loads(to_json(analyse(study)), parse_constant=refuse)
    assert plain["headline"] == headline(analyse(study))
    assert plain["study"] == json.loads(json.dumps(study.to_plain()))
    cosine = plain["rows"][2]
    assert cosine["comparison"]["verdict"] == "hurts"
    assert cosine["comparison"]["sentence"].startswith("hurts: ")
    assert plain["rows"][3]["measures"]["test_loss"]["mean"] is None


def without_first_class(run: Run) -> Run:
    """Take the images of the first class for images of the second, as many of them right."""
    first, classes = run.labels == 0, run.predicted.copy()
    classes[first & run.correct], classes[first & (classes == 1)] = 1, 0
    return replace(run, labels=np.where(first, 1, run.labels), predicted=classes)


def test_a_class_without_test_images_has_no_accuracy_in_any_form() -> None:
    study = example_study(seeds=range(2))
    rows = []
    for row in study.rows:
        rows.append(replace(row, runs=tuple(map(without_first_class, row.runs))))
    analysis = analyse(replace(study, rows=tuple(rows)))
    assert "| airplane | \N{EN DASH} | \N{EN DASH} |" in to_markdown(analysis)
    assert "nan" not in to_markdown(analysis)
    (classes,) = (to_svg(panel, "classes", "") for panel in classes_plot(analysis))
    assert "<title>airplane</title>" in classes  # and no value


def test_a_failed_run_is_reported_in_every_form() -> None:
    analysis = analyse(with_failure(example_study(), "out of memory"))
    line = "regress, seed 4 failed: out of memory"
    assert line in printed(analysis)
    assert line in to_markdown(analysis)
    assert "4 of 5" in to_markdown(analysis)
    assert runs_to_csv(analysis).splitlines()[-1] == '"regress",4,"","","","","","","","","","out of memory"'
    assert json.loads(to_json(analysis))["study"]["rows"][3]["failures"] == [{"seed": 4, "reason": "out of memory"}]


def test_one_teacher_for_all_seeds_is_named_as_a_limit() -> None:
    study = example_study(seeds=range(2))
    shared = replace(study, settings=replace(study.settings, teacher="one for all seeds"))
    assert any("share one teacher" in line for line in method(analyse(shared)))
    assert not any("share one teacher" in line for line in method(analyse(study)))


def test_every_output_is_written_and_every_picture_shows_something(analysis: Analysis, tmp_path: Path) -> None:
    paths = write_report(analysis, tmp_path / "report")
    pictures = ("accuracy", "differences", "curves", "classes", "confusion", "costs")
    texts = {"report.html", "report.md", "report.tex", "report.csv", "runs.csv", "report.json"}
    names = {path.relative_to(tmp_path / "report").as_posix() for path in paths}
    assert names == texts | {f"figures/{name}.png" for name in pictures}
    assert sorted(path for path in (tmp_path / "report").rglob("*") if path.is_file()) == sorted(paths)
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50, path.name


def test_pictures_draw_every_row_run_and_class(analysis: Analysis) -> None:
    (accuracy,), curves, (classes,) = accuracy_plot(analysis), curves_plot(analysis), classes_plot(analysis)
    axes = drawn(accuracy)
    assert [text.get_text() for text in axes.texts][::2] == ["teacher", "student", "cosine", "regress"]
    assert [text.get_text() for text in axes.texts][5] == "64.38 ± 0.29"
    assert [len(np.asarray(dots.get_offsets())) for dots in axes.collections].count(5) == 4  # every row's runs
    assert [len(drawn(panel).lines) for panel in curves] == [4, 4, 4, 4]
    assert tuple(text.get_text() for text in drawn(classes).texts)[::2] == CIFAR10_CLASSES


def test_an_accuracy_axis_ends_at_100_per_cent() -> None:
    study = example_study(range(2))
    row = replace(study.rows[1], runs=tuple(example_run(seed, 1.0 - 0.002 * seed) for seed in (0, 1)), reported=1.0)
    analysis = analyse(with_rows(study, row))
    assert drawn(accuracy_plot(analysis)[0]).get_xlim()[1] == 100
    assert all(drawn(panel).get_ylim()[1] <= 100 for panel in (*curves_plot(analysis)[:2], *costs_plot(analysis)))


def test_a_loss_axis_begins_at_0_and_an_interval_ends_at_100_per_cent() -> None:
    study = example_study(range(2))
    small = tuple(0.001 * epoch for epoch in range(20))
    runs = (
        replace(example_run(seed, 1.0 - 0.01 * seed), curves=Curves(tuple(range(20)), small, small)) for seed in (0, 1)
    )
    analysis = analyse(with_rows(study, replace(study.rows[1], runs=tuple(runs))))
    assert all(drawn(panel).get_ylim()[0] >= 0 for panel in curves_plot(analysis))
    assert "95 % interval 93.15 to 100.00" in to_svg(accuracy_plot(analysis)[0], "", "")


def test_dots_that_would_hide_one_another_are_side_by_side() -> None:
    axes = drawn(costs_plot(analyse(example_study(range(2))))[0])
    places = [np.array(dot.get_transform().transform(np.array(dot.get_data()).T))[0, 0] for dot in axes.lines[1::2]]
    _, student, _, regress = places
    assert student < regress - 5  # pixels; their accuracies are nearly the same
    assert [np.array(dot.get_xdata()).tolist() for dot in axes.lines[3::2]] == [[267.738]] * 3


def test_a_name_with_dollars_is_drawn_as_it_is() -> None:
    study = example_study(seeds=[0])
    renamed = replace(study.rows[2], name="$\\nonsense{$")
    (panel,) = accuracy_plot(analyse(with_rows(study, study.rows[1], renamed)))
    assert ">$\\nonsense{$</text>" in to_svg(panel, "accuracy", "")


def test_what_was_not_measured_is_left_out() -> None:
    study = example_study(seeds=range(2))
    rows = []
    for row in study.rows:
        runs = (replace(run, curves=replace(run.curves, val_loss=(), val_accuracy=())) for run in row.runs)
        rows.append(replace(row, runs=tuple(replace(run, latency_ms=None, onnx_bytes=None) for run in runs)))
    analysis = analyse(replace(study, rows=tuple(rows)))
    assert [panel.title for panel in curves_plot(analysis)] == ["Training accuracy (%)", "Training loss"]
    assert [panel.title for panel in costs_plot(analysis)] == ["Parameters (k)", "Multiply-adds (M)"]
    assert "Latency" not in to_markdown(analysis)


def test_curves_are_averaged_over_the_epochs_that_all_runs_have() -> None:
    study = example_study(seeds=range(2))
    short = replace(study.rows[1].runs[0], curves=Curves((1, 2), (2.0, 1.0), (0.1, 0.2), (), ()))
    row = replace(study.rows[1], runs=(short, study.rows[1].runs[1]))
    panel = curves_plot(analyse(with_rows(study, row)))[0]
    assert np.asarray(drawn(panel).lines[0].get_xdata()).tolist() == [1, 2]


def test_pictures_of_many_rows_show_those_that_differ_most() -> None:
    study = example_study(range(2), images=200, epochs=2)
    teacher, baseline, *_ = study.rows
    accuracies = {f"row {number}": 0.652 + 0.03 * (number - 9) for number in range(20)}
    rows = [
        Row(name, "", runs=tuple(example_run(seed, value, 200, 2) for seed in (0, 1)))
        for name, value in accuracies.items()
    ]
    few = fewer_rows(analyse(with_rows(study, teacher, baseline, *rows)))
    assert [found.row.name for found in few.rows] == [row.name for row in few.study.rows]
    assert len(few.rows) == MAX_ROWS
    assert few.study.rows[:2] == (teacher, baseline)
    kept = [int(row.name.removeprefix("row ")) for row in few.study.rows[2:]]
    assert kept == sorted(kept)  # in the study's order
    assert {0, 1, 18, 19} <= set(kept)
    assert not {8, 9, 10} & set(kept)
    assert fewer_rows(analyse(study)) == analyse(study)

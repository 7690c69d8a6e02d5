"""The HTML page in a real browser."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_browser import Browser, browser
from compare_example import example_run, example_study, with_failure, with_rows
from rich.console import Console

from kd_lightning.compare.results import Row
from kd_lightning.report.analysis import Analysis, analyse, curve
from kd_lightning.report.figures import panels
from kd_lightning.report.latex import to_latex
from kd_lightning.report.outputs import write_report
from kd_lightning.report.page import to_page
from kd_lightning.report.panel import PALETTE, to_svg
from kd_lightning.report.tables import headline
from kd_lightning.report.text import to_markdown, to_terminal

HOSTILE = "</script><img src=x onerror=alert(1)>"
BROKEN_WORDS = """[...document.querySelectorAll('.card h2, tbody th span, .key, figcaption')].flatMap(name =>
    [...name.childNodes].flatMap(part => [...part.textContent.matchAll(/\\S+/g)].filter(word => {
        const range = document.createRange();
        range.setStart(part, word.index);
        range.setEnd(part, word.index + word[0].length);
        return new Set([...range.getClientRects()].map(box => box.top)).size > 1;
    }).map(word => word[0])))"""
COLLIDING = """[...document.querySelectorAll('[data-plot] svg')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')];
    const boxes = texts.map(text => text.getBoundingClientRect());
    return boxes.flatMap((one, i) => boxes.slice(i + 1).flatMap((other, j) =>
        one.left < other.right - 1 && other.left < one.right - 1 &&
        one.top < other.bottom - 4 && other.top < one.bottom - 4
            ? [texts[i].textContent + ' | ' + texts[i + 1 + j].textContent] : []));
})"""
PLOTS = """[...document.querySelectorAll('[data-plot]')].map(box => ({
    name: box.dataset.plot,
    marks: box.querySelectorAll('svg use, svg path, svg image').length,
    height: box.querySelector('svg').getBoundingClientRect().height,
    outside: [...box.querySelectorAll('svg text, svg use, svg image')].filter(node => {
      const [mine, panel] = [node.getBoundingClientRect(), box.getBoundingClientRect()];
      return mine.left < panel.left - 1 || mine.right > panel.right + 1 || mine.bottom > panel.bottom + 1;
    }).map(node => node.textContent || node.outerHTML),
}))"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(with_failure(example_study(), "out of memory"))


@pytest.fixture(scope="module")
def page(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_page(analysis), encoding="utf-8")
    return path


def column(chromium: Browser, heading: str) -> list[str]:
    texts: list[str] = chromium.run(
        f"""(() => {{
            const head = [...document.querySelectorAll('thead th')].find(th => th.textContent === '{heading}');
            return [...head.closest('table').tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent);
        }})()"""
    )
    return texts


def click(chromium: Browser, script: str) -> None:
    chromium.run(f"({script}).click()")


def under_the_pointer(chromium: Browser, name: str, x: float, y: float) -> str:
    """Return what a plot shows when the pointer rests on a place, in fractions of the area inside its axes."""
    svg = f"document.querySelector('[data-plot={name}] svg')"
    chromium.run(f"{svg}.scrollIntoView({{block: 'center'}})")
    text: str = chromium.run(
        f"""(() => {{
            const box = {svg}.querySelector('clipPath rect');
            const place = (at, size, part) => box[at].baseVal.value + part * box[size].baseVal.value;
            const point = new DOMPoint(place('x', 'width', {x}), place('y', 'height', {y}));
            const {{x, y}} = point.matrixTransform({svg}.getScreenCTM());
            return document.elementFromPoint(x, y).querySelector(':scope > title')?.textContent ?? '';
        }})()"""
    )
    return text


def without_problems(chromium: Browser, page: Path) -> bool:
    requests = [address for address in chromium.requests if not address.startswith("data:")]
    return chromium.problems == [] and requests == [page.as_uri()]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (360, "light")])
def test_every_figure_is_drawn_and_nothing_overflows(chromium: Browser, page: Path, width: int, scheme: str) -> None:
    chromium.open(page, width=width, scheme=scheme)
    plots: list[dict[str, Any]] = chromium.run(PLOTS)
    kinds = {"accuracy": 1, "differences": 1, "curves": 4, "classes": 1, "confusion": 4, "costs": 4}
    found = [plot["name"] for plot in plots]
    assert list(dict.fromkeys(found)) == list(kinds)
    assert {kind: found.count(kind) for kind in kinds} == kinds
    assert [plot for plot in plots if plot["marks"] < 5 or plot["height"] < 40 or plot["outside"]] == []
    assert chromium.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert without_problems(chromium, page)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_what_a_person_sees_first_is_the_answer(
    chromium: Browser, page: Path, analysis: Analysis, width: int, height: int
) -> None:
    chromium.open(page, width=width, height=height)
    assert chromium.run("document.querySelector('h1').textContent") == headline(analysis)
    assert chromium.run("document.querySelector('h1').getBoundingClientRect().bottom") < height / 2
    assert chromium.run("document.querySelector('.card').getBoundingClientRect().bottom") < height
    verdicts = chromium.run("[...document.querySelectorAll('.card .pill')].map(pill => pill.textContent)")
    assert verdicts == ["▼ hurts", "\N{EN DASH} no verdict"]
    assert "regress, seed 4 failed: out of memory" in chromium.run("document.querySelector('.alert').textContent")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 21 rows with long names; the teacher is worse than the student without one."""
    study = example_study(range(3))
    teacher, baseline, *_ = study.rows
    worse = replace(teacher, runs=tuple(example_run(seed, 0.6, teacher=True) for seed in range(3)))
    names = ("SoftTargets and FeatureRegression, {} of the loss", "student_distilled_by_a_strong_teacher_{}", "DIST {}")
    rows = [
        Row(
            names[number % 3].format(number),
            "",
            runs=tuple(example_run(seed, 0.6 + 0.004 * number) for seed in range(3)),
        )
        for number in range(19)
    ]
    path = tmp_path_factory.mktemp("crowded") / "report.html"
    path.write_text(to_page(analyse(with_rows(study, worse, baseline, *rows))), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_21_long_names_break_between_words_and_collide_nowhere(
    chromium: Browser, crowded: Path, width: int, scheme: str
) -> None:
    chromium.open(crowded, width=width, scheme=scheme)
    assert chromium.run(BROKEN_WORDS) == []
    assert chromium.run(COLLIDING) == []
    assert [plot for plot in chromium.run(PLOTS) if plot["outside"]] == []
    assert chromium.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    edges = chromium.run("[...document.querySelectorAll('.pill')].map(pill => pill.getBoundingClientRect().right)")
    assert len(edges) == 19  # in the table; so many cards would hide it
    assert max(edges) < width


def test_a_worse_teacher_and_too_few_runs_stand_before_the_numbers(
    chromium: Browser, crowded: Path, tmp_path: Path
) -> None:
    warnings = "[...document.querySelectorAll('.alert')].map(box => box.textContent)"
    chromium.open(crowded)
    (worse,) = chromium.run(warnings)
    assert worse.startswith(
        "The teacher (teacher, 60.00 %) is worse than the student without a teacher (student, 65.37 %)"
    )
    (tmp_path / "few.html").write_text(to_page(analyse(example_study([0]))), encoding="utf-8")
    chromium.open(tmp_path / "few.html")
    (few,) = chromium.run(warnings)
    assert few.startswith("No verdict, because 1 seed is too few: one run shows no spread; plan at least 3")


def test_the_results_are_copied_as_latex_and_markdown(chromium: Browser, page: Path, analysis: Analysis) -> None:
    chromium.open(page)
    copied = []
    for number in range(2):
        button = f"document.querySelectorAll('.copy button')[{number}]"
        chromium.run(f"document.querySelectorAll('.copy')[{number}].open = true")
        chromium.run("document.addEventListener('copy', () => { globalThis.copied = getSelection().toString(); })")
        chromium.send("Runtime.evaluate", expression=f"{button}.click()", userGesture=True)
        copied.append(chromium.run("globalThis.copied").strip())
        assert chromium.run(f"{button}.textContent") == "Copied"
    assert copied[0] == to_latex(analysis).strip()
    assert copied[1] in to_markdown(analysis)


def test_light_and_dark_follow_the_system_until_the_reader_chooses(chromium: Browser, page: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('[data-plot=accuracy] text')).fill"
    chromium.open(page, scheme="light")
    light, light_ink = chromium.run(background), chromium.run(ink)
    chromium.open(page, scheme="dark")
    dark = chromium.run(background)
    assert light != dark
    assert chromium.run(ink) != light_ink
    click(chromium, "document.getElementById('theme')")
    assert chromium.run(background) == light
    chromium.open(page, scheme="dark")
    assert chromium.run(background) == light
    chromium.run("localStorage.clear()")


def test_a_click_on_a_heading_sorts_by_value_and_what_is_missing_comes_last(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    head = "[...document.querySelectorAll('thead button')].find(button => button.textContent === '{}')"
    assert column(chromium, "Row") == ["teacher", "student", "cosine", "regress"]
    click(chromium, head.format("Difference (points)"))
    assert column(chromium, "Row") == ["cosine", "regress", "teacher", "student"]
    click(chromium, head.format("Difference (points)"))
    assert column(chromium, "Row") == ["regress", "cosine", "teacher", "student"]
    click(chromium, head.format("Test accuracy (%)"))
    assert column(chromium, "Row") == ["cosine", "student", "regress", "teacher"]
    click(chromium, head.format("Row"))
    assert column(chromium, "Row") == ["cosine", "regress", "student", "teacher"]
    states = chromium.run(
        "[...document.querySelector('table').querySelectorAll('th[aria-sort]')].map(th => th.ariaSort)"
    )
    assert states.count("ascending") == 1
    cells = "document.querySelector('table').tBodies[0].rows[{}].cells[2].textContent = '{}'"
    for line, text in enumerate(("1,234.5 ± 0.1", "nan ± nan", "\N{MINUS SIGN}3.0", "<0.001")):
        chromium.run(cells.format(line, text))
    click(chromium, head.format("Test accuracy (%)"))
    assert column(chromium, "Test accuracy (%)") == ["\N{MINUS SIGN}3.0", "<0.001", "1,234.5 ± 0.1", "nan ± nan"]


def test_plots_show_their_values_under_the_pointer(chromium: Browser, page: Path, analysis: Analysis) -> None:
    chromium.open(page)
    teacher = analysis.study.rows[0]
    _, values = curve(teacher, "train_accuracy")
    last = f"teacher: {100 * values[-1].mean:.2f} ± {100 * (values[-1].std or 0):.2f}"
    assert under_the_pointer(chromium, "curves", 0.99, 0.5).splitlines()[:2] == ["epoch 20", last]
    count = sum(run.confusion[0][0] for run in teacher.runs)
    found = under_the_pointer(chromium, "confusion", 0.05, 0.05).splitlines()
    assert found[0] == "airplane, 500 images, taken for"
    assert found[1].startswith(f"airplane: {count}, ")
    assert under_the_pointer(chromium, "accuracy", 0.5, 0.3).startswith("student: ")
    assert under_the_pointer(chromium, "differences", 0.5, 0.2).startswith("cosine: hurts, \N{MINUS SIGN}1.02")
    assert under_the_pointer(chromium, "classes", 0.5, 0.95).startswith("truck\ncosine: ")


def test_every_colour_of_a_plot_has_a_dark_form(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert not [found for plot in plots for found in re.findall("#[0-9a-f]{6}", plot.replace("url(#", ""))]
    for colour, name in PALETTE.items():
        assert f"--{name}: light-dark({colour}," in text


def test_a_page_of_many_rows_is_small_and_its_plots_are_the_same_each_time(crowded: Path, analysis: Analysis) -> None:
    assert crowded.stat().st_size < 300_000
    panel = panels(analysis, "confusion")[0]
    assert to_svg(panel, "", "a") == to_svg(panel, "", "a")


def test_hostile_names_are_shown_as_text(chromium: Browser, tmp_path: Path) -> None:
    study = example_study(seeds=range(2))
    rows = (study.rows[0], study.rows[1], replace(study.rows[2], name=HOSTILE), study.rows[3])
    classes = (HOSTILE, *study.class_names[1:])
    hostile = with_failure(replace(with_rows(study, *rows), name=HOSTILE, class_names=classes), HOSTILE)
    page = tmp_path / "report.html"
    page.write_text(to_page(analyse(hostile)), encoding="utf-8")
    chromium.open(page, width=360)
    assert HOSTILE in chromium.run("document.querySelector('h1').textContent")
    assert chromium.run("document.images.length + document.scripts.length") == 1  # the script
    assert chromium.run("document.documentElement.scrollWidth") == 360
    assert [chart for chart in chromium.run(PLOTS) if chart["outside"]] == []
    names = "[...document.querySelectorAll('[data-plot=accuracy] text')].map(node => node.textContent).join('')"
    assert HOSTILE.replace(" ", "") in chromium.run(names).replace(" ", "")
    assert without_problems(chromium, page)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [[], [7]], ids=["no run", "one run"])
def test_a_study_that_has_hardly_begun_is_reported_in_every_form(
    chromium: Browser, tmp_path: Path, seeds: list[int]
) -> None:
    analysis = analyse(example_study(seeds=seeds))
    page, *_ = write_report(analysis, tmp_path)
    console = Console(file=io.StringIO(), record=True)
    console.print(to_terminal(analysis))
    assert console.export_text().startswith("cosine and regress: no verdict")
    chromium.open(page, width=390)
    assert chromium.run("document.querySelector('h1').textContent").startswith("cosine and regress: no verdict")
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert without_problems(chromium, page)


def test_the_page_shows_settings_and_versions_and_asks_for_nothing_outside(page: Path, analysis: Analysis) -> None:
    text = page.read_text(encoding="utf-8")
    settings = analysis.study.settings
    for shown in (settings.data, settings.protocol, settings.command, settings.machine, "torch 2.14.1"):
        assert shown in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text

"""The HTML page in a real browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_browser import Browser, browser
from compare_example import example_study, with_failure, with_rows

from kd_lightning.compare.results import Study
from kd_lightning.report.analysis import Analysis, analyse
from kd_lightning.report.chart_data import chart_data
from kd_lightning.report.page import to_page
from kd_lightning.report.tables import headline

HOSTILE = "</script><img src=x onerror=alert(1)>"
WIDTHS = (1280, 390, 360)
CHARTS = """[...document.querySelectorAll('[data-chart]')].map(box => ({
    name: box.dataset.chart,
    marks: box.querySelectorAll('svg .dot, svg .line, svg .cells').length,
    height: box.querySelector('svg')?.getBoundingClientRect().height ?? 0,
    outside: [...box.querySelectorAll('svg text, svg circle')].filter(node => {
      const [mine, panel] = [node.getBoundingClientRect(), box.getBoundingClientRect()];
      return mine.left < panel.left - 1 || mine.right > panel.right + 1 || mine.bottom > panel.bottom + 1;
    }).map(node => node.textContent || node.className.baseVal),
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


def written(study: Study, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(to_page(analyse(study)), encoding="utf-8")
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


def into_view(chromium: Browser, chart: str) -> dict[str, float]:
    """Scroll to a chart, wait until the page has drawn it, and return the area that reacts to the pointer."""
    hit = f"document.querySelector('[data-chart=\"{chart}\"] .hit')"
    chromium.run(f"{hit}.scrollIntoView({{block: 'center'}})")
    chromium.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box: dict[str, float] = chromium.run(
        f"(({{x, y, width, height}}) => ({{x, y, width, height}}))({hit}.getBoundingClientRect())"
    )
    return box


def without_problems(chromium: Browser, page: Path) -> bool:
    return chromium.problems == [] and chromium.requests == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn_and_nothing_overflows(chromium: Browser, page: Path, width: int, scheme: str) -> None:
    chromium.open(page, width=width, scheme=scheme)
    charts: list[dict[str, Any]] = chromium.run(CHARTS)
    kinds = {"difference": 2, "accuracy": 1, "curve": 4, "classes": 1, "confusion": 4, "cost": 4}
    found = [chart["name"].split()[0] for chart in charts]
    assert {kind: found.count(kind) for kind in kinds} == kinds
    assert [chart for chart in charts if chart["marks"] == 0 or chart["height"] < 40 or chart["outside"]] == []
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
    assert "regress, seed 4 failed: out of memory" in chromium.run("document.querySelector('.failures').textContent")


def test_light_and_dark_follow_the_system_until_the_reader_chooses(chromium: Browser, page: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    chromium.open(page, scheme="light")
    light = chromium.run(background)
    chromium.open(page, scheme="dark")
    dark = chromium.run(background)
    assert light != dark
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


def test_a_curve_shows_its_values_under_the_pointer(chromium: Browser, page: Path, analysis: Analysis) -> None:
    chromium.open(page)
    box = into_view(chromium, "curve 1")
    chromium.move(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    text = chromium.run("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")
    assert "epoch 20" in text
    for curve in chart_data(analysis)["curves"][1]["rows"]:
        assert f"{curve['mean'][-1]:.2f} ± {curve['std'][-1]:.2f}" in text
    chromium.move(2, 2)
    assert chromium.run("document.getElementById('tip').hidden")


def test_a_confusion_matrix_shows_counts_under_the_pointer(chromium: Browser, page: Path, analysis: Analysis) -> None:
    chromium.open(page)
    box = into_view(chromium, "confusion 0")
    chromium.move(box["x"] + 0.25 * box["width"], box["y"] + 0.05 * box["width"])
    count = sum(run.confusion[0][2] for run in analysis.study.rows[0].runs)
    assert f"airplane taken for bird\n{count} of 500" in chromium.run("document.getElementById('tip').innerText")


def test_the_legend_hides_rows_and_shows_the_later_half(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    lines = "document.querySelectorAll('[data-chart=\"curve 0\"] .line').length"
    ticks = "document.querySelector('[data-chart=\"curve 0\"]').textContent"
    assert chromium.run(lines) == 4
    click(chromium, "document.querySelector('.legend button')")
    assert chromium.run(lines) == 3
    click(chromium, "document.querySelector('.legend button')")
    assert chromium.run(lines) == 4
    before = chromium.run(ticks)
    click(chromium, "document.getElementById('late')")
    assert chromium.run(ticks) != before
    assert without_problems(chromium, page)


def test_hostile_names_are_shown_as_text(chromium: Browser, tmp_path: Path) -> None:
    study = example_study(seeds=range(2))
    rows = (study.rows[0], study.rows[1], replace(study.rows[2], name=HOSTILE), study.rows[3])
    classes = (HOSTILE, *study.class_names[1:])
    page = written(with_failure(replace(with_rows(study, *rows), name=HOSTILE, class_names=classes), HOSTILE), tmp_path)
    chromium.open(page, width=360)
    assert HOSTILE in chromium.run("document.querySelector('h1').textContent")
    assert chromium.run("document.images.length + document.scripts.length") == 2  # the data and the script
    assert chromium.run("document.documentElement.scrollWidth") == 360
    assert [chart for chart in chromium.run(CHARTS) if chart["outside"]] == []
    names = (
        "[...document.querySelectorAll('[data-chart=accuracy] .name')].map(name => name.getBoundingClientRect().width)"
    )
    assert max(chromium.run(names)) < 0.4 * 360
    assert without_problems(chromium, page)


@pytest.mark.parametrize("seeds", [[], [0]], ids=["no run", "one run"])
def test_a_study_that_has_hardly_begun_shows_a_page_without_errors(
    chromium: Browser, tmp_path: Path, seeds: list[int]
) -> None:
    page = written(example_study(seeds=seeds), tmp_path)
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

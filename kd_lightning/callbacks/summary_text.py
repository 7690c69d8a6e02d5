"""The summary of a run as text."""

from typing import Any

from kd_lightning.export import ExportReport
from kd_lightning.wording import epochs_in_words, shown_lines

WIDTH = 10


def summary_text(summary: dict[str, Any], report: ExportReport | None) -> str:
    """Return what a person wants to know of a run, line by line.

    Args:
        summary: What ``summary.json`` holds.
        report: What the export measured, where there was one.
    """
    lines = ["", f"Summary of {summary['name']} ({summary['folder']})", ""]
    lines += [f"  {title:{WIDTH}}{text}" for title, text in _rows(summary) if text]
    lines += ["", "  files"]
    lines += [f"    {_size(size):>10}  {path}" for path, size in summary["files"].items()]
    if report is not None:
        lines += ["", report.to_text()]
    return shown_lines("\n".join(lines) + "\n")


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    data, metrics, teacher, alone = (summary[name] for name in ("data", "metrics", "teacher", "alone"))
    words = {"train": "training", "val": "validation", "test": "test images"}
    images = ", ".join(f"{_part(data[f'{name}_images'], data['images'][name])} {words[name]}" for name in words)
    trained = epochs_in_words(summary["epochs"], summary["limits"])
    return [
        ("trained", f"{_network(summary['network'])} by {summary['task']} for {trained}"),
        ("data", f"{data['name']}: {len(data['classes'])} classes, {images}"),
        ("views", _views(data["views"], teacher)),
        ("accuracy", f"{_percent(metrics.get('test/accuracy'))} on the test images"),
        ("", _validation(metrics)),
        ("teacher", "" if teacher is None else _teacher_line(teacher, metrics)),
        ("alone", "" if alone is None else _baseline_line(alone)),
        ("gain", "" if alone is None else _gain(summary)),
        ("time", f"{_time(summary['seconds']['training'])} of training, {_time(summary['seconds']['total'])} in all"),
        ("device", summary["device"]),
    ]


def _views(count: int | None, teacher: dict[str, Any] | None) -> str:
    """Say in how many ways each training image was seen, and whether the teacher had to see them in every step."""
    seen = "a new one in every epoch" if count is None else f"{count} of each training image"
    if count == 1:
        seen = "the training images as they are"
    if teacher is None:
        return "" if count == 1 else seen
    kept = teacher["remembered"]
    if kept is None:
        return f"{seen}, the teacher asked in every step"
    return f"{seen}, the teacher remembered ({kept['bytes'] / 1e6:,.1f} MB {kept['place']})"


def _validation(metrics: dict[str, float]) -> str:
    parts = [("validation", "val/accuracy"), ("training", "train/accuracy")]
    return ", ".join(f"{_percent(metrics[key])} on the {name} images" for name, key in parts if key in metrics)


def _teacher_line(teacher: dict[str, Any], metrics: dict[str, float]) -> str:
    agreement = _percent(metrics.get("test/teacher_agreement"))
    accuracy = _percent(teacher["test_accuracy"])
    return f"{_network(teacher)}: {accuracy} on the test images; the student agrees with it on {agreement}"


def _baseline_line(alone: dict[str, Any]) -> str:
    trained = epochs_in_words(alone["epochs"], alone["limits"])
    accuracy = _percent(alone["test_accuracy"])
    return f"{_network(alone)} by {alone['run']} for {trained}: {accuracy} on the test images"


def _gain(summary: dict[str, Any]) -> str:
    if summary["no_gain"]:
        return f"not given: {summary['no_gain']}"
    accuracy, of_baseline = summary["metrics"].get("test/accuracy"), summary["alone"]["test_accuracy"]
    if accuracy is None or of_baseline is None:
        return ""
    gain = f"{100 * (accuracy - of_baseline):+.2f} points over the student alone"
    return f"{gain}, in one run each (compare tells gain from chance)"


def _network(network: dict[str, Any]) -> str:
    return f"{network['name']} ({network['parameters']:,} parameters)"


def _part(used: int, images: int) -> str:
    return f"{images:,}" if used == images else f"{used:,} of {images:,}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.2f} %"


def _size(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"

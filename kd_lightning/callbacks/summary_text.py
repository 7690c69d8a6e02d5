"""The summary of a run as text."""

from pathlib import Path
from typing import Any

from kd_lightning.export import ExportReport
from kd_lightning.machine.terminal import fitted
from kd_lightning.wording import as_hard, epochs_in_words, exact_duration, labels_in_words, shown, shown_lines

WIDTH = 10


def summary_text(summary: dict[str, Any], report: ExportReport | None, width: int) -> str:
    """Return the summary for people, line by line.

    Args:
        summary: The content of ``summary.json``.
        report: The export's report, where there was one.
        width: Columns of a line.
    """
    lines = ["", f"Summary of {summary['name']}", ""]
    lines += [
        fitted(f"  {title:{WIDTH}}{shown(text)}", width, hang=WIDTH) for title, text in summary_rows(summary) if text
    ]
    lines += ["", f"Files in {summary['folder']}", ""]
    lines += [f"{_size(size):>11}  {_inside(path, summary['folder'])}" for path, size in summary["files"].items()]
    if report is not None:
        lines += ["", report.to_text(width).rstrip()]
    return shown_lines("\n".join(lines) + "\n")


def _inside(path: str, folder: str) -> str:
    """Return a path in a folder without that folder."""
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return titles and texts of the summary's lines."""
    data, metrics, teacher, baseline = (summary[name] for name in ("data", "metrics", "teacher", "baseline"))
    words = {"train": "training", "val": "validation", "test": "test images"}
    words["train"] += labels_in_words(data["images"]["train"], data["unlabelled"])
    images = ", ".join(f"{_part(data[f'{name}_images'], data['images'][name])} {words[name]}" for name in words)
    trained = epochs_in_words(summary["epochs"], summary["limits"])
    training, total = (exact_duration(summary["seconds"][name]) for name in ("training", "total"))
    return [
        ("trained", f"{_network(summary['network'])} by {summary['task']} for {trained}"),
        ("weights", "" if summary["balance"] is None else _weights(summary["balance"])),
        ("data", f"{data['name']}: {len(data['classes'])} classes, {images}"),
        ("views", _views(data["views"], teacher)),
        ("accuracy", f"{_percent(metrics.get('test/accuracy'))} on the test images"),
        ("", _validation(metrics, "labelled training" if data["unlabelled"] else "training")),
        ("teacher", "" if teacher is None else _teacher_line(teacher, metrics)),
        ("baseline", "" if baseline is None else _baseline_line(baseline)),
        ("gain", "" if baseline is None else _gain(summary)),
        ("caution", worse_teacher(teacher, baseline)),
        ("time", f"{training} of training, {total} in all"),
        ("device", summary["device"]),
    ]


def _weights(balance: dict[str, Any]) -> str:
    """Return the weights that were found, and by what."""
    found = ", ".join(f"{name} {weight:.3g}" for name, weight in balance["weights"].items())
    return f"{found}: each pulled {as_hard(balance['ratio'])} as the labels at the start"


def _views(count: int | None, teacher: dict[str, Any] | None) -> str:
    """Return how many views each training image has, and whether the teacher's outputs are cached."""
    seen = "a new one in every epoch" if count is None else f"{count} of each training image"
    if count == 1:
        seen = "the training images as they are"
    if teacher is None:
        return "" if count == 1 else seen
    kept = teacher["cached"]
    if kept is None:
        return f"{seen}, teacher outputs computed in every step"
    return f"{seen}, teacher outputs cached ({kept['bytes'] / 1e6:,.1f} MB {kept['place']})"


def _validation(metrics: dict[str, float], training: str) -> str:
    parts = [("validation", "val/accuracy"), (training, "train/accuracy")]
    return ", ".join(f"{_percent(metrics[key])} on the {name} images" for name, key in parts if key in metrics)


def _teacher_line(teacher: dict[str, Any], metrics: dict[str, float]) -> str:
    if not teacher["parameters"]:
        return f"{teacher['name']}, which has no outputs for the test images"
    agreement = _percent(metrics.get("test/teacher_agreement"))
    accuracy = _percent(teacher["test_accuracy"])
    return f"{_network(teacher)}: {accuracy} on the test images; the student agrees with it on {agreement}"


def _baseline_line(baseline: dict[str, Any]) -> str:
    trained = epochs_in_words(baseline["epochs"], baseline["limits"])
    accuracy = _percent(baseline["test_accuracy"])
    network = f"{_network(baseline)} by {baseline['run']} for {trained}"
    return f"the student without a teacher: {network}: {accuracy} on the test images"


def _gain(summary: dict[str, Any]) -> str:
    if summary["no_gain"]:
        return f"not given: {summary['no_gain']}"
    accuracy, baseline = summary["metrics"].get("test/accuracy"), summary["baseline"]["test_accuracy"]
    if accuracy is None or baseline is None:
        return ""
    gain = f"{100 * (accuracy - baseline):+.2f} points over the student without a teacher"
    return f"{gain}, in one run each (compare tests whether a gain is significant)"


def worse_teacher(teacher: dict[str, Any] | None, baseline: dict[str, Any] | None) -> str:
    """Return a caution where the teacher is worse than the student without it; empty elsewhere."""
    teachers, own = (None if network is None else network["test_accuracy"] for network in (teacher, baseline))
    if teachers is None or own is None or teachers >= own:
        return ""
    return (
        f"the teacher is worse ({_percent(teachers)}) than the student without it ({_percent(own)}); train it "
        "longer, or fine-tune another (docs/teachers.md#fine-tuning)"
    )


def _network(network: dict[str, Any]) -> str:
    return f"{network['name']} ({network['parameters']:,} parameters)"


def _part(used: int, images: int) -> str:
    return f"{images:,}" if used == images else f"{used:,} of {images:,}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.2f} %"


def _size(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"

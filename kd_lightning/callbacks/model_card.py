"""A model card in the Hugging Face hub's format: what a run has trained and measured, and how to use its files."""

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from kd_lightning.callbacks.summary_text import summary_rows
from kd_lightning.export import ExportReport
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.weights import ENDINGS
from kd_lightning.wording import in_markdown

TEMPLATE = """---
# license: yours to choose, such as mit (https://huggingface.co/docs/hub/repositories-licenses)
{front}---

# {title}

{what}

## What was measured

| | |
|---|---|
{rows}

One training run, measured at its end.

## Files

{files}

## Images

{images}

## Use

```sh
kd-lightning predict photo.jpg --model {shell_file}
```

```python
from kd_lightning import predict_image

label, probabilities = predict_image("photo.jpg", {python_file})
```

## Training

{training}
"""

UNIMPORTANT = ("views", "caution", "time", "device")
"""Rows of the summary that say nothing about the network."""


def model_card(summary: dict[str, Any], info: ModelInfo, report: ExportReport | None, files: list[Path]) -> str | None:
    """Return the text of a run's ``README.md``; ``None`` where there is no file of its network to describe.

    Args:
        summary: The content of ``summary.json``.
        info: What prediction needs of the network.
        report: The export's report, where there was one.
        files: The files in the run's folder.
    """
    models = [path for path in files if path.suffix in (".onnx", *ENDINGS) and ".rejected." not in path.name]
    if not models:
        return None
    exported = [path for path in models if path.suffix == ".onnx"]
    name = (exported or models)[0].name
    return TEMPLATE.format(
        front=yaml.safe_dump(_front(summary, bool(exported)), sort_keys=False, allow_unicode=True),
        title=in_markdown(f"{summary['name']}: {summary['network']['name']} for {info.data}"),
        what=_what(summary, info),
        rows="\n".join(f"| {in_markdown(title)} | {in_markdown(text)} |" for title, text in _rows(summary)),
        files=_files(models, report),
        images=_images(info),
        shell_file=shlex.quote(name),
        python_file=json.dumps(name, ensure_ascii=False),
        training=_training(summary, [path.name for path in files]),
    )


def _front(summary: dict[str, Any], is_exported: bool) -> dict[str, Any]:
    """Return the front matter, which the hub reads; an accuracy is in it where all test images were measured."""
    data, accuracy = summary["data"], summary["metrics"].get("test/accuracy")
    is_distilled, is_on_hub = summary["teacher"] is not None, bool(data["hub_name"])
    tags = ["image-classification", *["knowledge-distillation"] * is_distilled, *["onnx"] * is_exported]
    front = {"library_name": "kd_lightning", "pipeline_tag": "image-classification", "tags": tags}
    front |= {"datasets": [data["hub_name"]]} if is_on_hub else {}
    front |= {"metrics": ["accuracy"]}
    if accuracy is None or data["test_images"] != data["images"]["test"]:
        return front
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": data["name"], "type": data["hub_name"] or "own", "split": "test"},
        "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
    }
    return front | {"model-index": [{"name": summary["name"], "results": [result]}]}


def _what(summary: dict[str, Any], info: ModelInfo) -> str:
    network, teacher = summary["network"], summary["teacher"]
    colours = "colour" if info.in_channels == 3 else "grey"
    losses = ", ".join(f"`{name}`" for name in summary["losses"].values())
    sentences = [
        f"A `{network['name']}` with {network['parameters']:,} parameters that classifies {colours} images of "
        f"{info.image_size} x {info.image_size} pixels into {len(info.class_names)} classes."
    ]
    if teacher is not None and teacher["parameters"]:
        sentences += [f"It learned from a teacher, a `{teacher['name']}` with {teacher['parameters']:,} parameters."]
    elif teacher is not None:
        sentences += ["It learned from a teacher's outputs for the training images."]
    if teacher is not None and str(teacher["weights"]).startswith("http"):
        sentences += [f"The teacher's weights are <{in_markdown(teacher['weights'])}>."]
    return " ".join([*sentences, f"Its losses: {losses}."] if losses else sentences)


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    return [(title, text) for title, text in summary_rows(summary) if text and title not in UNIMPORTANT]


def _files(models: list[Path], report: ExportReport | None) -> str:
    sizes = "\n".join(f"- `{path.name}`: {path.stat().st_size / 1e6:.2f} MB" for path in models)
    if report is None:
        return sizes
    compared = "Each ONNX file was compared with the network in torch on the test images:"
    return f"{sizes}\n\n{compared}\n\n{report.to_markdown().rstrip()}"


def _images(info: ModelInfo) -> str:
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (info.mean, info.std))
    black, white = info.pixel_range or (0, 255)
    wide = "" if info.pixel_range is None else f" Values of more than 8 bits: {black:g} to {white:g} become 0 to 255."
    size = f"{info.image_size} x {info.image_size} pixels"
    return (
        f"An image is resized to {size} (bilinear, antialiased), scaled to 0 to 1, and normalized by mean {mean} and "
        f"standard deviation {std}; `predict` does this.{wide}\n\n"
        f"Classes, in the order of the outputs: {', '.join(map(in_markdown, info.class_names))}."
    )


def _training(summary: dict[str, Any], names: list[str]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    trained = f"Trained with kd_lightning {version('kd_lightning')}, {versions}."
    if "config.yaml" not in names:
        return trained
    again = "[config.yaml](config.yaml) has all settings; `kd-lightning fit --config config.yaml` trains again."
    return f"{again}\n\n{trained}"

"""``export``: write the ONNX files of a trained model."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from kd_lightning.data import ImageDataModule
from kd_lightning.data.compatibility import check_images
from kd_lightning.data.published import is_address, local_file
from kd_lightning.errors import UserError
from kd_lightning.export import ExportReport, ExportSettings, GateError, QuantizationSettings, export_variants
from kd_lightning.export.verify import Variant
from kd_lightning.export.web import Example, write_web_page
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.machine.cpu import use_own_cores
from kd_lightning.machine.terminal import print_fitted
from kd_lightning.networks.weights import load_model
from kd_lightning.teacher import Teacher
from kd_lightning.teacher.write_logits import write_logits
from kd_lightning.training.data_options import data_parser, parse

DESCRIPTION = """Write a trained model as ONNX files and compare each with the model.

With --data the comparison uses that data's test images, and static quantization can be calibrated on its training
images; without, the comparison uses noise. With --logits only the model's logits are written."""

OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "output": (
        str | None,
        None,
        "Folder of the files; by default the model's own, or this one where it is downloaded.",
    ),
    "variants": (list[Variant] | None, None, "Forms to write; by default fp32, dynamic and, with --data, static."),
    "web": (str | None, None, "Folder of a web page that runs the files in the reader's browser."),
    "logits": (
        str | None,
        None,
        "Write, in place of ONNX files, the model's logits for the training images of --data to this .npz, from which "
        "a student learns by the teacher FileTeacher.",
    ),
    "runtime": (str | None, None, "Of web: an unpacked onnxruntime-web package; npm fetches it by default."),
}
"""Type, default and help of the options beside those of ``ExportSettings`` and ``QuantizationSettings``."""

EXAMPLES = 12
"""Test images that a web page offers, at most."""


def main(args: Sequence[str]) -> int:
    """Export a model and print what was measured."""
    parser = data_parser("export", DESCRIPTION, required=False)
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        help="The model: a .pth, .safetensors or .ckpt file, or https://HOST/FILE#sha256=CHECKSUM.",
    )
    parser.add_argument("--network", type=str, help="The class of a network of your own, such as my_networks.TinyNN.")
    for name, (kind, default, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    parser.add_class_arguments(ExportSettings, skip={"quantization"})
    parser.add_class_arguments(QuantizationSettings)
    options = parse(parser, args)
    if options.runtime is not None and options.web is None:
        raise UserError(f"--runtime {options.runtime} belongs to the web page; give its folder with --web, too.")
    use_own_cores()
    model = local_file(options.model)
    network, info = load_model(model, options.network)
    data: ImageDataModule | None = options.get("data")
    if options.logits is not None:
        return _write_logits(options, Teacher(network, str(model)), data)
    if data is not None:
        check_images(model, info, data)
    beside = Path() if is_address(options.model) else model.parent
    folder = beside if options.output is None else Path(options.output)
    try:
        report = export_variants(
            network,
            info,
            folder,
            _names(model, options, data),
            train=None if data is None else data.split("train"),
            test=None if data is None else data.split("test"),
            settings=_settings(options),
        )
    except GateError as error:
        print(error.report.to_text())
        raise
    print(report.to_text())
    if options.web is not None:
        print_fitted(f"web page: {_write_page(options, report, info, data)}")
    return 0


def _write_logits(options: Namespace, teacher: Teacher, data: ImageDataModule | None) -> int:
    """Write the logits for the training images."""
    for name in ("output", "variants", "web"):
        if options[name] is not None:
            raise UserError(f"--{name} is for ONNX files, but --logits writes only {options.logits}; leave it out.")
    if data is None:
        raise UserError("--logits writes logits for training images; name them with --data.")
    if Path(options.logits).suffix != ".npz":
        raise UserError(f"--logits is {options.logits}, but the file must end in .npz.")
    images, done = write_logits(teacher, data, Path(options.logits))
    print_fitted("\n".join([*(f"The model {change}." for change in done), f"{options.logits}: logits for {images}."]))
    return 0


def _write_page(options: Namespace, report: ExportReport, info: ModelInfo, data: ImageDataModule | None) -> Path:
    """Write the page with all files that passed, and a test image of each class to try."""
    files: dict[str, Path] = {
        row.variant: row.path for row in sorted(report.rows, key=lambda row: row.variant != "fp32")
    }
    examples = []
    if data is not None:
        images, labels = data.split("test")
        firsts = [int((labels == label).nonzero()[0]) for label in labels.unique(sorted=True)[:EXAMPLES]]
        examples = [Example(images[row].numpy(), info.class_names[int(labels[row])]) for row in firsts]
    runtime = None if options.runtime is None else Path(options.runtime)
    return write_web_page(Path(options.web), files, info, examples=examples, runtime=runtime)


def _names(model: Path, options: Namespace, data: ImageDataModule | None) -> dict[Variant, str]:
    variants: list[Variant] = ["fp32", "dynamic"] if data is None else ["fp32", "dynamic", "static"]
    chosen = options.variants or variants
    return {
        variant: f"{model.stem}.onnx" if variant == "fp32" else f"{model.stem}_{variant}.onnx" for variant in chosen
    }


def _settings(options: Namespace) -> ExportSettings:
    quantization = QuantizationSettings(**_given(QuantizationSettings, options))
    return ExportSettings(**_given(ExportSettings, options), quantization=quantization)


def _given(settings: type, options: Namespace) -> dict[str, Any]:
    return {item.name: options[item.name] for item in fields(settings) if item.name in options}

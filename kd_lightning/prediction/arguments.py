"""The options of ``predict``, parsed without importing the code that runs it."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from kd_lightning.arguments import PlainParser


class Options(argparse.Namespace):
    """The parsed options, as ``predict --help`` explains them; ``threads`` of 0 takes what there is."""

    images: list[str]
    model: str
    network: str | None
    output: Path | None
    sheet: Path | None
    top: int
    threshold: float
    batch_size: int
    threads: int


def parse(args: Sequence[str]) -> Options:
    """Return the options of ``predict``; print the help and exit on ``--help``.

    Raises:
        UserError: An option is unknown, missing or out of range.
    """
    parser = PlainParser(
        prog="kd-lightning predict",
        description="Classify image files, and all images in folders and the folders in them.",
        epilog="The exit status is 1 where images could not be read; the others are predicted all the same.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="an image file, or a folder of images")
    add(
        "--model",
        required=True,
        metavar="FILE",
        help="an .onnx (needs no torch), or weights; or https://...#sha256=...",
    )
    add("--network", metavar="CLASS", help="of weights: the class of a network of your own, my_networks.TinyNN")
    results = _file(".json", ".jsonl", ".csv")
    add("--output", type=results, metavar="FILE", help="write the results too, by the ending as .json, .jsonl, .csv")
    add("--top", type=_count, default=2, metavar="K", help="show the K likeliest classes (default: 2)")
    add("--threshold", type=_share, default=0, metavar="P", help='print "not sure" below this probability (default: 0)')
    add("--batch_size", type=_count, default=32, metavar="N", help="images in the network at once (default: 32)")
    add("--threads", type=_count, default=0, metavar="N", help="CPU threads to use (default: all)")
    add("--sheet", type=_file(".png"), metavar="PNG", help="draw a contact sheet of the predictions")
    return parser.parse_intermixed_args(args, Options())


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a probability from 0 to 1")
    return value


def _file(*endings: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if Path(text).suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"the file {text} must end in {', '.join(endings)}")
        return Path(text)

    return path

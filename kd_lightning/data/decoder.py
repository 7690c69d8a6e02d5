"""A digest of the code and the libraries that decode image files."""

import os
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from inspect import getsource

import PIL
from PIL.features import codecs, modules, version
from PIL.features import features as extras

from kd_lightning.inference import image_worker, images

CODECS = ("jpg", "libjpeg_turbo", "webp", "libtiff", "zlib", "avif")
"""Libraries below Pillow: two versions may decode the same file to different pixels."""


def digest(texts: Iterable[str]) -> str:
    """Return a digest of texts, which may be file names in any encoding."""
    result = blake2b(digest_size=12)
    for text in texts:
        result.update(os.fsencode(text) + b"\0")
    return result.hexdigest()


@cache
def decoder() -> str:
    """Return a digest of everything that determines a file's pixels."""
    known = [codec for codec in CODECS if codec in {**codecs, **modules, **extras}]
    versions = [PIL.__version__, *(str(version(codec)) for codec in known)]
    return digest([*versions, getsource(images), getsource(image_worker)])

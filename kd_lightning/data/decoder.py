"""A digest of the code and the libraries that decode image files."""

from functools import cache
from inspect import getsource

import PIL
from PIL.features import codecs, modules, version
from PIL.features import features as extras

from kd_lightning.digest import digest
from kd_lightning.inference import image_worker, images

CODECS = ("jpg", "libjpeg_turbo", "webp", "libtiff", "zlib", "avif")
"""Libraries below Pillow: two versions may decode the same file to different pixels."""


@cache
def decoder() -> str:
    """Return a digest of everything that determines a file's pixels."""
    known = [codec for codec in CODECS if codec in {**codecs, **modules, **extras}]
    versions = [PIL.__version__, *(str(version(codec)) for codec in known)]
    return digest(*versions, getsource(images), getsource(image_worker))

"""Take the README's picture, the top of a study's page: ``python tests/picture.py PAGE docs/images/report.png``."""

import sys
import tempfile
from base64 import b64decode
from io import BytesIO
from pathlib import Path

from compare_browser import browser
from PIL import Image

WIDTH, PIXELS = 900, 1400  # of the page, of the picture


def main(report: Path, target: Path) -> None:
    """Write the page down to its first plots, in light colours."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as page:
        page.open(report.resolve(), width=WIDTH)
        page.send("Emulation.setScrollbarsHidden", hidden=True)
        end = page.run("document.querySelector('[data-plot=accuracy]').getBoundingClientRect().bottom + scrollY")
        size = {"width": WIDTH, "height": int(end) + 8, "deviceScaleFactor": PIXELS / WIDTH, "mobile": False}
        page.send("Emulation.setDeviceMetricsOverride", **size)
        page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 200)))")
        target.parent.mkdir(parents=True, exist_ok=True)
        shot = page.send("Page.captureScreenshot", format="png")["data"]
    with Image.open(BytesIO(b64decode(shot))) as image:
        image.convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

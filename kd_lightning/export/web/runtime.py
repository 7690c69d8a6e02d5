"""The files of onnxruntime-web that a page needs, from the npm package."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from kd_lightning.errors import UserError

PACKAGE = "onnxruntime-web@1.30.0"
MODULE = "ort.wasm.bundle.min.mjs"
FILES = (MODULE, "ort-wasm-simd-threaded.wasm")  # the smallest set: the CPU only, no WebGPU
TIMEOUT = 600  # seconds for a download of 33 MB
OTHER_WAY = "or give --runtime FOLDER, an unpacked onnxruntime-web package"


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """Return the contents of ``FILES`` by name.

    Args:
        folder: An unpacked onnxruntime-web package, such as ``node_modules/onnxruntime-web``; without it npm downloads
            the package to a temporary folder.

    Raises:
        UserError: npm is missing or fails, or the files are not in the package.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as download:
            return runtime_files(_download(Path(download)))
    try:
        return {name: (folder / "dist" / name).read_bytes() for name in FILES}
    except OSError as error:
        raise UserError(
            f"--runtime {folder} holds no dist/{Path(error.filename).name}; unpack {PACKAGE} from npm there."
        ) from error


def _download(folder: Path) -> Path:
    """Have npm download the package; return it, unpacked."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"npm is not installed; to download {PACKAGE} for the web page, install it, {OTHER_WAY}.")
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder)]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=TIMEOUT)
        with tarfile.open(next(folder.glob("*.tgz")), "r:gz") as package:
            package.extractall(folder, [package.getmember(f"package/dist/{name}") for name in FILES], filter="data")
    except (OSError, EOFError, KeyError, StopIteration, subprocess.SubprocessError, tarfile.TarError) as error:
        raise UserError(f"`npm pack {PACKAGE}` failed ({_reason(error)}); try again, {OTHER_WAY}.") from error
    return folder / "package"


def _reason(error: Exception) -> str:
    """Return in one line why npm failed; its first line names the kind of error, such as ``code ENOTFOUND``."""
    lines = error.stderr.splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return next((line for line in lines if "error" in line), str(error) or "it wrote no archive")

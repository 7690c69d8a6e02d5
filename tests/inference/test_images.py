import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from difficult_images import SIZE, picture, png_chunk, png_of_zeros, write_difficult_images
from numpy.typing import NDArray
from PIL import Image

from kd_lightning.errors import UserError
from kd_lightning.inference import image_files, images
from kd_lightning.inference.image_files import image_names, left_out_line
from kd_lightning.inference.images import FULL_RANGE, MAX_PIXELS, BrokenImageError, Pixels, read_image, wide_values


def saved(path: Path, pixels: NDArray[np.generic], **options: object) -> Path:
    Image.fromarray(pixels).save(path, None, **options)
    return path


def grey_of(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).convert("L"))


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.tiff", {"compression": "tiff_lzw"})])
def test_an_image_of_the_right_size_keeps_its_exact_pixels(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    assert np.array_equal(read_image(saved(tmp_path / name, picture(), **options), SIZE), picture())


def test_every_difficult_image_is_read_as_the_same_picture(tmp_path: Path) -> None:
    grey = {"grey.png", "sixteen_bit.png", "sixteen_bit.tif", "integers.tif", "floats.tif"}
    transparent = {"grey_alpha.png", "rgba.png", "rgba.webp", "rgba.tif"}
    for path in write_difficult_images(tmp_path / "images").good:
        pixels = read_image(path, SIZE, pixel_range=FULL_RANGE).astype(int)
        expected = picture()
        if path.name in grey | {"grey_alpha.png"}:
            expected = np.repeat(grey_of(expected)[..., None], 3, axis=-1)
        if path.name in transparent:
            assert (pixels[:, SIZE // 2 :] == 255).all(), path.name
            pixels, expected = pixels[:, : SIZE // 2], expected[:, : SIZE // 2]
        if path.name in ("one_bit.png", "one_bit.tif"):
            assert set(np.unique(pixels)) == {0, 255}
            assert abs(pixels.mean() - grey_of(picture()).mean()) < 5
        elif path.name != "palette_transparent.png":
            assert np.abs(pixels - expected).mean() < 6, path.name


def test_each_file_that_is_not_an_image_has_a_reason(tmp_path: Path) -> None:
    reasons = {}
    for path in write_difficult_images(tmp_path / "images").broken:
        with pytest.raises(BrokenImageError) as caught:
            read_image(path, SIZE)
        assert caught.value.path == path
        assert str(path) in str(caught.value)
        reasons[path.name] = caught.value.reason
    assert reasons["text.png"] == "it is not an image of a known format"
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["dangling.jpg"] == "there is no such file"
    assert reasons["bomb.png"] == "it would decode to more than 80 million pixels"
    assert "truncated" in reasons["truncated.jpg"]
    assert all(0 < len(reason) < 80 and "\n" not in reason for reason in reasons.values())


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8945, 14_000])  # plain Pillow: reads, warns, refuses
def test_an_image_above_the_limit_is_refused_at_every_level_of_pillow(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_of_zeros(side))
    with pytest.raises(BrokenImageError, match="80 million pixels"):
        read_image(tmp_path / "bomb.png", SIZE)


def test_pixels_that_are_transparent_show_white(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.full((SIZE, SIZE), 128, np.uint8)])
    pixels = read_image(saved(tmp_path / "half.png", rgba), SIZE)
    assert np.abs(pixels.astype(int) - (picture() * (128 / 255) + 127)).max() <= 1


def test_a_transparent_colour_of_a_palette_or_of_plain_pixels_shows_white(tmp_path: Path) -> None:
    colours = Image.fromarray(picture())
    colours.save(tmp_path / "plain.png", transparency=(20, 0, 0))
    quantized = colours.quantize(64)
    first = quantized.getpixel((0, 0))
    quantized.save(tmp_path / "palette.png", transparency=first)
    quantized.save(tmp_path / "palette.gif", transparency=first)
    quantized.save(tmp_path / "alphas.png", transparency=bytes([0 if n == first else 255 for n in range(64)]))
    for path in tmp_path.iterdir():
        pixels = read_image(path, SIZE)
        assert (pixels[0, 0] == 255).all(), path.name
        assert np.abs(pixels[-1, -1].astype(int) - picture()[-1, -1]).max() <= 2, path.name


@pytest.mark.parametrize("name", ["wide.png", "wide.tif"])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path: Path, name: str) -> None:
    wide = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    pixels = read_image(saved(tmp_path / name, wide), SIZE, 1, FULL_RANGE)[..., 0]
    assert np.array_equal(pixels, np.rint(wide / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("values", "pixel_range", "expected", "clipped"),
    [
        (np.array([[0, 4095]], np.uint16), (0, 4095), [0, 255], False),
        (np.array([[819, 5000]], np.uint16), (0, 4095), [51, 255], True),
        (np.array([[-1000, 1000]], np.int32), (-1000, 3000), [0, 128], False),
        (np.array([[-1010, 3000]], np.int32), (-1000, 3000), [0, 255], True),
        (np.array([[0.2, 1.02]], np.float32), (0, 1), [51, 255], True),
        (np.array([[0.2, 1.001]], np.float32), (0, 1), [51, 255], False),
    ],
)
def test_wide_pixels_are_scaled_by_the_range_that_is_given_and_a_file_that_exceeds_it_is_noted(
    tmp_path: Path, values: NDArray[np.generic], pixel_range: tuple[float, float], expected: list[int], clipped: bool
) -> None:
    path, noted = saved(tmp_path / "values.tif", values), set[str]()
    assert read_image(path, None, 1, pixel_range, noted).ravel().tolist() == expected
    assert noted == ({str(path)} if clipped else set())


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint16), np.zeros((2, 2), "f4")])
def test_wide_pixels_without_a_range_are_refused_and_not_guessed(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    with pytest.raises(BrokenImageError, match=r"more than 8 bits a value.*convert it to 8 bits"):
        read_image(saved(tmp_path / "wide.tif", pixels), None)


def sixteen_bit_colour(path: Path, value: int) -> Path:
    """Write a PNG of 2 x 2 pixels with 16 bits a colour, which Pillow reads and does not write."""
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = zlib.compress((b"\0" + struct.pack(">H", value) * 6) * 2)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    return path


def test_colours_of_sixteen_bits_are_read_only_over_their_full_range(tmp_path: Path) -> None:
    path = sixteen_bit_colour(tmp_path / "a.png", 51 * 256)
    assert (read_image(path, None, pixel_range=FULL_RANGE) == 51).all()
    assert wide_values(path).high == 51 * 256 + 255
    with pytest.raises(BrokenImageError, match="16-bit colours are read only from 0 to 65535"):
        read_image(path, None, pixel_range=(0, 4095))
    with pytest.raises(BrokenImageError, match="more than 8 bits a value"):
        read_image(path, None)


def test_pixels_that_are_not_finite_are_a_broken_image(tmp_path: Path) -> None:
    with pytest.raises(BrokenImageError, match="pixels that are not finite"):
        read_image(saved(tmp_path / "nan.tif", np.array([[0, np.nan]], np.float32)), None, pixel_range=(0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = picture(24, 40)
    seen = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright[::-1], 1),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        path = saved(tmp_path / name, np.ascontiguousarray(seen[orientation]), exif=exif)
        assert np.array_equal(read_image(path, None), upright), name


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_not_lose_the_photo(tmp_path: Path) -> None:
    path = saved(tmp_path / "photo.jpg", picture(), exif=b"Exif\x00\x00MM\x00\x2bgarbage")
    assert read_image(path, SIZE).shape == (SIZE, SIZE, 3)


def test_shrinking_averages_so_that_a_fine_pattern_turns_grey(tmp_path: Path) -> None:
    checks = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = read_image(saved(tmp_path / "checks.png", checks), SIZE)
    assert np.abs(pixels.astype(int) - 127).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(20, 50), (1, 1)])
def test_any_size_becomes_the_requested_square(tmp_path: Path, height: int, width: int) -> None:
    path = saved(tmp_path / "a.png", picture(height, width))
    assert read_image(path, SIZE).shape == (SIZE, SIZE, 3)
    assert read_image(path, SIZE, channels=1).shape == (SIZE, SIZE, 1)
    assert read_image(path, None).shape == (height, width, 3)


def test_a_large_jpeg_read_the_fast_way_looks_as_if_read_in_full(tmp_path: Path) -> None:
    path = saved(tmp_path / "photo.jpg", picture(900, 1200), quality=95)
    with Image.open(path) as image:
        full = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read_image(path, SIZE) - full).mean() < 2


@pytest.mark.parametrize("mode", ["CMYK", "LA", "P"])
def test_one_channel_is_the_grey_of_the_three(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(picture()).convert(mode).save(path)
    assert np.array_equal(read_image(path, SIZE, channels=1)[..., 0], grey_of(read_image(path, SIZE)))


def test_a_postscript_program_is_not_an_image(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(BrokenImageError, match="not an image of a known format"):
        read_image(tmp_path / "a.png", SIZE)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged files
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_damaged_bytes_give_pixels_or_a_broken_image_and_nothing_else(tmp_path: Path, ending: str) -> None:
    data = saved(tmp_path / f"whole.{ending}", picture()).read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / f"damaged.{ending}"
    broken = 0
    for _ in range(200):
        damaged = bytearray(data[: generator.integers(1, 2 * len(data))])
        for position in generator.integers(0, min(len(damaged), 400), size=generator.integers(0, 4)):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path, SIZE).shape == (SIZE, SIZE, 3)
        except BrokenImageError:
            broken += 1
    assert broken > 20


def test_images_are_found_in_nested_folders_with_any_ending_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpeg", "a/deep/x.TiF", "a.gif", "notes.txt", "._b.png", ".hidden/c.png", "a/png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [name.removeprefix(f"{tmp_path}/") for name in image_names(tmp_path)]
    assert names == ["a.gif", "a/deep/x.TiF", "a/z.jpeg", "b.PNG"]


def test_images_are_found_by_their_content_where_their_ending_is_unknown_and_the_others_are_counted(
    tmp_path: Path,
) -> None:
    image = Image.fromarray(picture())
    for name, kind in {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.ppm": "PPM", "d": "PNG", "e.dat": "WEBP"}.items():
        image.save(tmp_path / name, kind)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    contents = {
        "f.HEIC": heic,
        "g.heic": heic,
        "h.svg": b"<svg/>",
        "README": b"read me",
        "i.csv": b"1,2",
        "j.xyz": b"\0",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    image.save(tmp_path / "k", "EPS")
    image.save(tmp_path / "l.dng", "TIFF")  # as raw photos are, with a preview first
    os.mkfifo(tmp_path / "pipe")
    left_out = Counter[str]()
    names = [Path(name).name for name in image_names(tmp_path, left_out=left_out)]
    assert names == ["a.jfif", "b.JPE", "c.ppm", "d", "e.dat"]
    assert all(read_image(tmp_path / name, SIZE).shape == (SIZE, SIZE, 3) for name in names)
    assert left_out == Counter({".heic": 2, ".svg": 1, ".csv": 1, ".xyz": 1, ".dng": 1, "without ending": 3})
    line = left_out_line(tmp_path, left_out)
    assert line is not None
    assert f"9 files in {tmp_path} are left out: 3 without ending, 2 .heic, " in line


def test_texts_beside_images_are_not_reported(tmp_path: Path) -> None:
    assert left_out_line(tmp_path, Counter({".txt": 3, ".db": 1})) is None
    assert left_out_line(tmp_path, Counter()) is None


@pytest.mark.skipif(".avif" not in image_files.IMAGE_SUFFIXES, reason="this Pillow reads no AVIF")
def test_an_avif_is_read(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.avif", quality=95)
    assert image_names(tmp_path) == [f"{tmp_path}/a.avif"]
    assert np.abs(read_image(tmp_path / "a.avif", SIZE).astype(int) - picture()).mean() < 8


def test_links_are_followed_and_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("root/a.png", "root/sub/b.png", "elsewhere/c.png"):
        (tmp_path / name).touch()
    (tmp_path / "root" / "sub" / "up").symlink_to("..")
    (tmp_path / "root" / "self").symlink_to(".")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "link.png").symlink_to("a.png")
    names = [name.removeprefix(f"{tmp_path}/root/") for name in image_names(tmp_path / "root")]
    assert names == ["a.png", "again/c.png", "link.png", "sub/b.png"]


@pytest.mark.parametrize(
    ("target", "message"), [("..", "the link .*root/link leads to .*, which holds it"), ("link", "nowhere")]
)
def test_a_link_that_leads_around_the_folder_or_nowhere_is_refused(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(target)
    with pytest.raises(UserError, match=message):
        image_names(tmp_path / "root")


def test_reading_images_needs_no_torch() -> None:
    code = "import sys, kd_lightning.inference.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["sixteen_bit.png", "floats.tif", "integers.tif", "rgba.png", "palette_transparent.png"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_that_is_read_by_strips_has_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, channels: int
) -> None:
    write_difficult_images(tmp_path / "images")
    whole = read_image(tmp_path / "images" / name, 20, channels, FULL_RANGE)
    monkeypatch.setattr(images, "STRIP", 3 * SIZE + 1)
    assert np.array_equal(read_image(tmp_path / "images" / name, 20, channels, FULL_RANGE), whole)

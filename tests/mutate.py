"""A seeded mutator of files: of their bytes, and of what is in archives, metadata, graphs and YAML."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import onnx

ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 10**9, 2**63, 10**400, 0.0, -1.5, 1e308, float("nan"), float("inf"), "", "x" * 5000,
    "\ud800", "\0", "\x1b[1m", "../..", [], [1, [2]], {}, {"a": {}}, "[" * 3000,
]  # fmt: skip
"""Values that are seldom intended."""

TEXTS = [
    "null", "[1]", "{a: b}", "-1", "1e999", ".nan", "9" * 50, '"\\ud800"', "'\\0'", "&a [*a]", "*a", "2001-99-99",
    "!!binary x", "!!python/name:os.system", "{" * 99, "[" * 9999, "&a {b: 1}", "<<: *a", "1:2:3", "0x_", "''",
]  # fmt: skip
"""YAML that is seldom intended."""

Mutate = Callable[[Random, bytes], bytes]


def some_bytes(random: Random, data: bytes) -> bytes:
    """Change, cut, insert, repeat or remove bytes at random places."""
    content = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 3, 10])):
        at, length = random.randrange(len(content) + 1), random.choice([1, 1, 4, 8, 64])
        extreme = random.choice([b"\0", b"\xff", b"\x7f", random.randbytes(1)]) * length
        kind = random.randrange(6)
        if kind < 3:
            content[at : at + length] = extreme if kind < 2 else bytes(b ^ 1 << random.randrange(8) for b in extreme)
        elif kind == 3:
            content[at:at] = extreme
        elif kind == 4:
            content[at:at] = content[at : at + 16 * length]
        else:
            del content[at : random.choice([at + length, len(content)])]
    return bytes(content)


def odd(random: Random, value: Any) -> Any:
    """Replace something in nested plain values."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        kept = {name: part for name, part in value.items() if name != key}
        return random.choice([kept, {**value, key: odd(random, value[key])}, {**value, key: odd(random, value[key])}])
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        return random.choice([value[:at], value + value, [*value[:at], odd(random, value[at]), *value[at + 1 :]]])
    return random.choice(ODD)


def archived(random: Random, data: bytes) -> bytes:
    """Change an archive of torch's or NumPy's: an entry's content or name, its compression, its presence."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as changed:
        chosen = random.choice(source.infolist()).filename
        kind = random.choice(["bytes"] * 6 + ["drop", "rename", "compress", "twice", "grow"])
        for entry in source.infolist():
            content, name, way = source.read(entry), entry.filename, zipfile.ZIP_STORED
            if name == chosen:
                content = {"bytes": some_bytes(random, content), "grow": content + bytes(10**6)}.get(kind, content)
                name = "archive/other" if kind == "rename" else name
                way = zipfile.ZIP_DEFLATED if kind in ("compress", "grow") else way
                if kind == "drop":
                    continue
                if kind == "twice":
                    changed.writestr("archive/data/0", content)
            changed.writestr(name, content, way)
    return target.getvalue()


def graph(random: Random, data: bytes) -> bytes:
    """Change an ONNX file: its metadata, shapes, names, nodes and their attributes."""
    model = onnx.load_from_string(data)
    for _ in range(random.choice([1, 1, 2])):
        random.choice([_metadata, _metadata, _metadata, _shape, _node, _tensor])(random, model)
    changed: bytes = model.SerializeToString()
    return changed


def _metadata(random: Random, model: onnx.ModelProto) -> None:
    chosen = random.choice(model.metadata_props)
    values = json.dumps(odd(random, json.loads(chosen.value)))
    chosen.value = random.choice([values, values, values, "[" * 50_000, "NaN", "{", "9" * 5000])
    if random.random() < 0.1:
        chosen.key += "x"


def _shape(random: Random, model: onnx.ModelProto) -> None:
    value = random.choice([*model.graph.input, *model.graph.output])
    shape = value.type.tensor_type.shape
    if random.random() < 0.3:
        value.type.tensor_type.elem_type = random.randrange(1, 17)
    elif random.random() < 0.5 and shape.dim:
        random.choice(shape.dim).dim_value = random.choice([0, 1, -1, 7, 10**9, 2**62])
    elif random.random() < 0.5:
        shape.dim.add().dim_value = 1
    else:
        value.name += "x"


def _node(random: Random, model: onnx.ModelProto) -> None:
    node = random.choice(model.graph.node)
    numbers = [attribute for attribute in node.attribute if attribute.ints]
    kind = random.randrange(4)
    if kind == 0 and numbers:
        random.choice(numbers).ints[0] = random.choice([0, -1, 5, 10**9, 2**62])
    elif kind == 1:
        node.op_type = random.choice(["Relu", "Shape", "Sqrt", "Log", "NonZero", "Flatten", "ReduceMax", "Nothing"])
    elif kind == 2:
        node.output[0] += "x"
    else:
        model.graph.node.remove(node)


def _tensor(random: Random, model: onnx.ModelProto) -> None:
    tensor = random.choice(model.graph.initializer)
    tensor.dims[0] = random.choice([0, 1, 10**9, -1, tensor.dims[0] + 1])
    if random.random() < 0.3:
        tensor.raw_data = some_bytes(random, tensor.raw_data)


def text(random: Random, data: bytes) -> bytes:
    """Change lines and values of YAML or JSON; anchors, aliases and brackets among them."""
    lines = data.decode().split("\n")
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(len(lines) or 1)
        lines = lines or [""]
        key = lines[at].partition(":")[0]
        value = random.choice(TEXTS)
        lines[at : at + 1] = random.choice(
            [[], [lines[at]] * 2, [f"{key}: {value}"], [f"{key}: {value}"], [f" {lines[at]}"], [lines[at] + value]]
        )
    return "\n".join(lines).encode()


def picture(random: Random, data: bytes) -> bytes:
    """Change bytes of an image; sizes in a PNG's header too, with the checksum that belongs to them."""
    if not data.startswith(b"\x89PNG") or random.random() < 0.5:
        return some_bytes(random, data)
    header = bytearray(data[12:29])
    header[random.choice([4, 8]) :][:4] = b""
    sizes = struct.pack(">II", *(random.choice([0, 1, 33, 8900, 70_000, 2**31 - 1]) for _ in range(2)))
    header[4:12] = sizes
    header[12:14] = bytes([random.choice([1, 8, 16, 3]), random.choice([0, 2, 3, 4, 6, 9])])
    return data[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + data[33:]

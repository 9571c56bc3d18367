"""Writes v1.ckpt from the description in docs/checkpoints.md, with nothing of this crate. Run in this directory."""

import struct
import zlib


def section(name, kind, shape, data):
    name = name.encode()
    line = struct.pack("<H", len(name)) + name + struct.pack("<BB", kind, len(shape))
    line += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<QI", len(data), zlib.crc32(data))
    return line, data


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


def f64(*values):
    return struct.pack(f"<{len(values)}d", *values)


SECTIONS = [
    section("weight", 1, [2, 3], f32(0.0, -0.0, 1.5, float("inf"), float("-inf"), 2.0**-149)),
    section("bias", 2, [3], struct.pack("<3Q", 0x7FF4_0000_0000_BEEF, 0xFFF8_0000_0000_0001, 0x3FF0_0000_0000_0000)),
    section("scale", 2, [], f64(-0.1)),
    section("nothing", 1, [4, 0, 2], b""),
    section("optimizer", 0, [], bytes(range(256))),
    section("schedule", 0, [], b'{"name": "constant", "lr": 0.1}'),
    section("loader", 0, [], struct.pack("<QQ", 3, 12345)),
    section("random", 0, [], struct.pack("<Q", 0x9E37_79B9_7F4A_7C15)),
    section("", 0, [], b""),
    section("Gewicht für später", 1, [1], f32(1.0)),
]
STEP = 2**40 + 7

table = b"".join(line for line, _ in SECTIONS)
data = b"".join(data for _, data in SECTIONS)
header = b"\x89ndopt\r\n" + struct.pack("<I", 1)
header += struct.pack("<I", zlib.crc32(header))
header += struct.pack("<QQII", STEP, 44 + len(table) + len(data), len(table), zlib.crc32(table))
header += struct.pack("<I", zlib.crc32(header))
with open("v1.ckpt", "wb") as file:
    file.write(header + table + data)

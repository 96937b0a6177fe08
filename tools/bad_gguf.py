"""Small GGUF files, most of them malformed, each with what the reader must say to it.

    bad_gguf.py FOLDER     writes them there as NAME.gguf
"""

import pathlib
import struct
import sys

FLOAT32, STRING, ARRAY = 6, 8, 9  # types of values
F32, F16 = 0, 1  # types of tensors


def text(content, length=None):
    return struct.pack("<Q", len(content) if length is None else length) + content


def key(name, value_type, value=b""):
    return text(name) + struct.pack("<I", value_type) + value


def array(element_type, count):
    return struct.pack("<IQ", element_type, count)


def tensor(dimensions, tensor_type=F32, offset=0):
    return text(b"t") + struct.pack("<I%dQIQ" % len(dimensions), len(dimensions), *dimensions, tensor_type, offset)


def file_of(keys=(), tensors=(), magic=b"GGUF", version=3, key_count=None, tensor_count=None):
    """The counts lie when they are given."""
    counts = (len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count)
    return magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors) + bytes(64)


# name, bytes, what the message holds; None: the file is well-formed, though no model can be made of it
CASES = [
    ("no_keys_no_tensors", file_of(), None),
    ("another_magic", file_of(magic=b"XXXX"), 'begins with "XXXX"'),
    ("version_99", file_of(version=99), "version 99"),
    ("keys_without_number", file_of(key_count=1 << 60), "keys: 1152921504606846976"),
    ("tensors_without_number", file_of(tensor_count=1 << 60), "tensors: 1152921504606846976"),
    ("a_key_past_the_end", file_of([text(b"abc", 1 << 40)]), "key 0: a string of 1099511627776 bytes"),
    ("a_string_past_the_end", file_of([key(b"general.name", STRING, text(b"hi", 1 << 40))]),
     '"general.name"'),
    ("an_array_past_the_end", file_of([key(b"a", ARRAY, array(FLOAT32, 1 << 28))]),
     'key "a": elements of the array: 268435456'),
    ("an_array_of_arrays", file_of([key(b"a", ARRAY, array(ARRAY, 2))]), 'key "a": an array of arrays'),
    ("unknown_type_of_value", file_of([key(b"a", 77, bytes(8))]), 'key "a"'),
    ("a_tensor_past_the_end", file_of(tensors=[tensor([1024], offset=1 << 40)]),
     'tensor "t": 4096 bytes at offset 1099511627776'),
    ("elements_wrap_to_zero", file_of(tensors=[tensor([1 << 16] * 4)]), 'tensor "t": shape [65536'),
    ("dimensions_without_number", file_of(tensors=[text(b"t") + struct.pack("<I", 0xFFFFFFFF) + b"\1" * 64]),
     'tensor "t": 4294967295 dimensions'),
]


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content, _ in CASES:
        (folder / f"{name}.gguf").write_bytes(content)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

"""Small safetensors files, most of them malformed, each with what the reader must say to it.

    bad_safetensors.py FOLDER [LIMIT]     writes them there as NAME.safetensors; those over LIMIT bytes are left out
"""

import json
import pathlib
import struct
import sys

DATA_BYTES = 64  # follow every header unless a case says otherwise


def file_of(header, data=bytes(DATA_BYTES), length=None):
    """A header as text, bytes or an object that becomes JSON; `length` lies about its size."""
    if not isinstance(header, (str, bytes)):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(shape="[4]", offsets="[0,16]", dtype="F32"):
    """The text of one tensor's entry; not an object, so that it may hold what JSON libraries would not write."""
    return '{"dtype":"%s","shape":%s,"data_offsets":%s}' % (dtype, shape, offsets)


def one(*arguments, **named):
    return file_of('{"a":%s}' % tensor(*arguments, **named))


# name, bytes, what the message holds; None: the file is well-formed, though no model can be made of it
CASES = [
    ("plain", one(), None),
    ("an_empty_tensor", one("[0]", "[0,0]"), None),
    ("no_tensors", file_of({}), None),
    ("no_bytes", b"", "0 bytes, less than the 8"),
    ("two_bytes", b"\1\2", "2 bytes, less than the 8"),
    ("data_cut_short", file_of({"a": json.loads(tensor())}, data=bytes(4)), '"a": data offset 16'),
    ("header_of_a_terabyte", file_of({}, length=1 << 40), "1099511627776"),
    ("header_past_the_end", file_of({}, length=5000), "5000"),
    ("not_json", file_of(b"\xff\xfe{{{{"), "not valid JSON"),
    ("an_array", file_of([1, 2]), "an array at the top"),
    ("no_dtype", file_of({"a": {"shape": [1], "data_offsets": [0, 4]}}), "a.dtype: is missing"),
    ("unknown_dtype", one(dtype="Q9"), '"a": dtype "Q9"'),
    ("shape_of_text", one('"x"'), 'a.shape: "x" is not an array'),
    ("negative_dimension", one("[-4]"), '"a": dimension -4'),
    ("two_negative_dimensions", one("[-1,-4]"), '"a": dimension -1'),
    ("fractional_dimension", one("[4.9]"), '"a": dimension 4.9'),
    ("dimension_over_31_bits", one("[%d]" % ((1 << 32) + 4)), '"a": dimension 4294967300 exceeds 2^31-1'),
    ("bytes_wrap_to_zero", one("[65536,65536,65536,16384]", "[0,0]"), '"a": shape [65536'),
    ("count_wraps_to_zero", one("[65536,65536,65536,65536,1]", "[0,0]"), '"a": shape [65536'),
    ("negative_offsets", one(offsets="[-32,-16]"), '"a": data offset -32'),
    ("offsets_wrap", one(offsets="[%d,%d]" % ((1 << 64) - 64, (1 << 64) - 48)), '"a": data offset'),
    ("overlap", file_of('{"a":%s,"b":%s}' % (tensor(), tensor())), "inside a tensor"),
    ("hole", one(offsets="[16,32]"), "after a hole"),
    ("a_name_twice", file_of('{"a":%s,"a":%s}' % (tensor(), tensor(offsets="[16,32]"))), "a: stands twice"),
    ("deep_metadata", file_of('{"__metadata__":' + "[" * 200_000 + "]" * 200_000 + "}"), "nested deeper"),
    ("open_brackets", file_of("[" * 1_000_000), ""),
    ("metadata_of_numbers", file_of('{"__metadata__":{"x":1},"a":%s}' % tensor()), "__metadata__.x: 1 is not a string"),
]


def main(folder, limit=sys.maxsize):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content, _ in CASES:
        if len(content) <= int(limit):
            (folder / f"{name}.safetensors").write_bytes(content)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])

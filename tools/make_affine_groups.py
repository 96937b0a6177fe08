#!/usr/bin/env python3
"""Writes tests/data/affine_groups.safetensors: matrices quantised by MLX in every width and group size.

For each NAME = BITS-GROUP-TYPE: NAME.weight, NAME.scales, NAME.biases as mlx.core.quantize packs them, and NAME.values,
scale * quant + bias in float32. Needs mlx (or mlx-cpu) and numpy from PyPI.
"""

import itertools
import pathlib

import mlx.core as mx
import numpy as np

OUT = pathlib.Path(__file__).parent.parent / "tests" / "data" / "affine_groups.safetensors"
ROWS, COLUMNS = 3, 256
TYPES = {32: ("F32", mx.float32), 64: ("F16", mx.float16), 128: ("BF16", mx.bfloat16)}


def main():
    random = np.random.default_rng(20)
    tensors = {}
    for bits, (group, (type_name, dtype)) in itertools.product((2, 3, 4, 5, 6, 8), TYPES.items()):
        matrix = mx.array(random.standard_normal((ROWS, COLUMNS), dtype=np.float32)).astype(dtype)
        weight, scales, biases = mx.quantize(matrix, group_size=group, bits=bits)
        ones = mx.ones(scales.shape, mx.float32)
        quants = np.array(mx.dequantize(weight, ones, ones * 0, group_size=group, bits=bits))
        assert (quants == quants.round()).all() and quants.min() >= 0 and quants.max() == 2**bits - 1
        repeat = [np.repeat(np.array(array.astype(mx.float32)), group, axis=1) for array in (scales, biases)]
        name = f"{bits}-{group}-{type_name}"
        tensors |= {f"{name}.weight": weight, f"{name}.scales": scales, f"{name}.biases": biases,
                    f"{name}.values": mx.array(repeat[0] * quants + repeat[1])}
    mx.save_safetensors(str(OUT), tensors)
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

"""ONNX Runtime on all-MiniLM-L6-v2 in float32, on request: the peer of `cortex bench encode`.

    minilm_onnx.py MODEL_DIR THREADS

Writes the model as an ONNX graph, from its safetensors, opens one session and says so in a line of JSON with the
version. Then it answers each line of standard input by one:

    {"texts": 32, "tokens": 128, "repeat": 5}   ->  {"ms": [..]}           after a run that is not timed
    {"ids": [[101, 7592, 102], ..]}             ->  {"embeddings": [..]}   of length 1
"""

import json
import pathlib
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

OPSET = 20  # has Gelu and LayerNormalization
IR_VERSION = 10


class Graph:
    """Nodes and constants by running numbers; every method returns the name of a value."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = []

    def constant(self, array):
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return name

    def weight(self, name):
        return self.constant(self.weights[name])

    def add(self, kind, *inputs, output=None, **attributes):
        output = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(self, x, name):
        product = self.add("MatMul", x, self.constant(self.weights[name + ".weight"].T))
        return self.add("Add", product, self.weight(name + ".bias"))

    def norm(self, x, name, epsilon):
        scale, shift = self.weight(name + ".weight"), self.weight(name + ".bias")
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


def embed_tokens(graph, epsilon):
    """input_ids [texts, tokens] -> [texts, tokens, hidden]; all tokens are of the first type."""
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    tokens = graph.add("Shape", "input_ids", start=1, end=2)
    zero = graph.constant(numpy.array([0], numpy.int64))
    positions = graph.add("Slice", graph.weight("embeddings.position_embeddings.weight"), zero, tokens, zero)
    kind = graph.constant(graph.weights["embeddings.token_type_embeddings.weight"][0])
    x = graph.add("Add", graph.add("Add", words, positions), kind)
    return graph.norm(x, "embeddings.LayerNorm", epsilon)


def attention(graph, x, layer, heads, hidden):
    split = graph.constant(numpy.array([0, 0, heads, hidden // heads], numpy.int64))
    join = graph.constant(numpy.array([0, 0, hidden], numpy.int64))
    scale = graph.constant(numpy.array((hidden // heads) ** -0.5, numpy.float32))

    def per_head(name, order):
        rows = graph.add("Reshape", graph.linear(x, f"{layer}.attention.self.{name}"), split)
        return graph.add("Transpose", rows, perm=order)

    query, value = per_head("query", [0, 2, 1, 3]), per_head("value", [0, 2, 1, 3])
    key = per_head("key", [0, 2, 3, 1])
    scores = graph.add("Softmax", graph.add("MatMul", graph.add("Mul", query, scale), key), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    return graph.linear(graph.add("Reshape", mixed, join), f"{layer}.attention.output.dense")


def feed_forward(graph, x, layer):
    return graph.linear(graph.add("Gelu", graph.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")


def model_of(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {name.removeprefix("bert."): array for name, array in load_file(folder / "model.safetensors").items()}
    hidden, epsilon = config["hidden_size"], config["layer_norm_eps"]
    graph = Graph(weights)
    x = embed_tokens(graph, epsilon)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        mixed = graph.add("Add", x, attention(graph, x, layer, config["num_attention_heads"], hidden))
        x = graph.norm(mixed, f"{layer}.attention.output.LayerNorm", epsilon)
        x = graph.norm(graph.add("Add", x, feed_forward(graph, x, layer)), f"{layer}.output.LayerNorm", epsilon)
    mean = graph.add("ReduceMean", x, graph.constant(numpy.array([1], numpy.int64)), keepdims=0)
    graph.add("LpNormalization", mean, axis=-1, p=2, output="embedding")
    onnx_graph = helper.make_graph(
        graph.nodes, "minilm",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["texts", hidden])],
        graph.constants)
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def open_session(folder, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / "minilm.onnx"
        onnx.save(model_of(folder), path)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answer(session, request):
    if "ids" in request:
        # Text by text: the graph has no mask for lengths that differ.
        vectors = [session.run(None, {"input_ids": numpy.array([ids], numpy.int64)})[0][0] for ids in request["ids"]]
        return {"embeddings": [[float(x) for x in vector] for vector in vectors]}
    shape = (request["texts"], request["tokens"])
    ids = {"input_ids": numpy.random.default_rng(0).integers(1000, 20000, shape, numpy.int64)}
    session.run(None, ids)
    times = []
    for _ in range(request["repeat"]):
        begin = time.perf_counter()
        session.run(None, ids)
        times.append((time.perf_counter() - begin) * 1000)
    return {"ms": times}


def main():
    session = open_session(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"version": onnxruntime.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(session, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

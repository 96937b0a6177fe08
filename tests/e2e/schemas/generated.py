"""Schemas that a program makes: objects, arrays, choices and references, one within another, of whatever can be a leaf.
What it makes follows from the seed alone."""

import random

WORDS = """apple river window green quick table number seven paper stone cloud garden letter music north yellow
silver bridge winter summer harbour candle mirror ladder rocket engine planet valley forest island""".split()
NAMES = ["id", "name", "title", "size", "kind", "count", "level", "owner", "label", "status", "größe", "длина", "色"]
FORMATS = ["date", "date-time", "time", "uuid", "email", "ipv4"]
PATTERNS = ["^[A-Z]{3}$", "^[0-9]{2,5}$", "^[a-z]{2,6}_[a-z]{2,6}$", "^v[1-9][0-9]?$", "^(yes|no|maybe)$",
            "^[a-f0-9]{8}$", r"^\d{2}:\d{2}$", "^[A-Za-z ]{3,20}$"]


class Maker:
    """Makes schemas no deeper than it is told. `definitions` is what references may name."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.definitions = {}

    # Leaves.

    def boolean(self):
        return {"type": "boolean"}

    def integer(self):
        low = self.random.randint(-1000, 1000)
        schema = {"type": "integer", "minimum": low, "maximum": low + self.random.choice([0, 1, 9, 99, 5000])}
        if self.random.random() < 0.2:
            schema["maximum"] = low + 5000
            schema["multipleOf"] = self.random.choice([2, 3, 5, 10, 25])
        return schema

    def number(self):
        low = self.random.choice([-10, -0.5, 0, 0.125, 1, 20])
        bounds = self.random.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
        schema = {"type": "number", bounds[0]: low, bounds[1]: low + self.random.choice([0.5, 1, 10, 250])}
        if self.random.random() < 0.2:
            schema["multipleOf"] = self.random.choice([0.125, 0.1, 0.05])
        return schema

    def text(self):
        least = self.random.choice([0, 0, 1, 4])
        return {"type": "string", "minLength": least, "maxLength": least + self.random.choice([4, 12, 30])}

    def formatted(self):
        schema = {"type": "string", "format": self.random.choice(FORMATS)}
        if schema["format"] == "email":
            schema["maxLength"] = 40
        return schema

    def patterned(self):
        return {"type": "string", "pattern": self.random.choice(PATTERNS)}

    def enum(self):
        values = self.random.sample(WORDS, self.random.randint(2, 6))
        if self.random.random() < 0.3:
            values += self.random.sample([0, 1, -7, 2.5, None, True, ""], 2)
        return {"enum": values}

    def const(self):
        return {"const": self.random.choice([*WORDS[:5], 3, 0.5, False, None, [1, "two"], {"three": 3}])}

    def leaf(self):
        makers = [self.boolean, self.integer, self.number, self.text, self.formatted, self.patterned, self.enum,
                  self.const]
        return self.random.choice(makers)()

    # What has parts.

    def object(self, depth):
        names = self.random.sample(NAMES + WORDS, self.random.randint(1, 5))
        schema = {"type": "object", "properties": {name: self.any(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self.random.random() < 0.7]
        if self.random.random() < 0.8:
            schema["additionalProperties"] = False
        else:
            schema.update({"required": names, "additionalProperties": self.leaf(), "maxProperties": len(names) + 1})
        return schema

    def array(self, depth):
        least = self.random.choice([0, 0, 1, 2])
        schema = {"type": "array", "items": self.any(depth - 1), "minItems": least,
                  "maxItems": least + self.random.randint(0, 2)}
        if self.random.random() < 0.25:
            first = [self.leaf() for _ in range(self.random.randint(1, 2))]
            schema.update({"prefixItems": first, "minItems": len(first), "maxItems": len(first) + 1})
        return schema

    def choice(self, depth):
        if self.random.random() < 0.5:
            return {"anyOf": [self.any(depth - 1) for _ in range(self.random.randint(2, 3))]}
        tags = self.random.sample(WORDS, self.random.randint(2, 3))
        return {"oneOf": [{"type": "object", "properties": {"kind": {"const": tag}, "value": self.any(depth - 1)},
                           "required": ["kind", "value"], "additionalProperties": False} for tag in tags]}

    def nullable(self, depth):
        schema = self.any(depth - 1)
        if isinstance(schema.get("type"), str) and "enum" not in schema:
            return {**schema, "type": [schema["type"], "null"]}
        return {"anyOf": [{"type": "null"}, schema]}

    def reference(self, depth):
        name = self.random.choice(WORDS)
        if name not in self.definitions:
            self.definitions[name] = True  # while it is made it may name itself only where it need not
            self.definitions[name] = self.recursive(name) if self.random.random() < 0.5 else self.any(depth - 1)
        return {"$ref": f"#/$defs/{name}"}

    def recursive(self, name):
        """A list or a tree: what follows may be left out, or be null."""
        me = {"$ref": f"#/$defs/{name}"}
        further = self.random.choice([{"anyOf": [{"type": "null"}, me]}, {"type": "array", "items": me, "maxItems": 2}])
        return {"type": "object", "properties": {"value": self.leaf(), "next": further}, "required": ["value"],
                "additionalProperties": False}

    def any(self, depth):
        if depth <= 0:
            return self.leaf()
        makers = [self.object, self.object, self.array, self.choice, self.nullable, self.reference]
        if self.random.random() < 0.35:
            return self.leaf()
        return self.random.choice(makers)(depth)

    def whole(self, depth):
        schema = self.random.choice([self.object, self.object, self.array, self.choice])(depth)
        return {**schema, "$defs": self.definitions} if self.definitions else schema


def generated_cases(count, seed):
    """(name, schema) of so many, from shallow to deep."""
    for number in range(count):
        depth = 1 + number % 4
        yield f"generated: {number}, depth {depth}", Maker(f"{seed}.{number}").whole(depth)

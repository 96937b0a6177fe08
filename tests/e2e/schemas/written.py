"""Schemas as people write them: one for each thing that a schema can say, and some for what programs exchange."""

TEXT = {"type": "string", "maxLength": 40}
COUNT = {"type": "integer", "minimum": 0, "maximum": 100}


def closed(properties, required=None, **more):
    """An object with these properties, all required if nothing else is said, and no others."""
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": False, **more}


def listed(items, most=4, least=0, **more):
    return {"type": "array", "items": items, "minItems": least, "maxItems": most, **more}


OBJECTS = {
    "person": closed({"name": TEXT, "age": COUNT}),
    "city": closed({"name": TEXT, "country": TEXT, "capital": {"type": "boolean"}}),
    "some of it": closed({"title": TEXT, "year": {"type": "integer"}, "seen": {"type": "boolean"}}, ["title"]),
    "nothing required": closed({"a": COUNT, "b": COUNT}, []),
    "no properties": {"type": "object", "properties": {}, "additionalProperties": False},
    "order of keys": closed({"z": COUNT, "a": COUNT, "m": COUNT}),
    "open": {"type": "object", "properties": {"id": COUNT}, "required": ["id"], "maxProperties": 2},
    "required and not listed": {"type": "object", "required": ["id"], "additionalProperties": COUNT, "maxProperties": 1},
    "map of counts": {"type": "object", "additionalProperties": COUNT, "minProperties": 1, "maxProperties": 1},
    "keys by pattern": {"type": "object", "patternProperties": {"^[a-z]{1,8}$": COUNT}, "additionalProperties": False,
                        "maxProperties": 1},
    "list of maps": listed({"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 1}, 3, 1),
    "some of those that may be": closed({"a": COUNT, "b": COUNT, "c": COUNT}, ["a"], maxProperties=2),
    "many properties": closed({f"field_{i}": {"type": "boolean"} for i in range(20)}),
    "nested": closed({"outer": closed({"middle": closed({"inner": closed({"value": COUNT})})})}),
    "empty text as a key": closed({"": COUNT, " ": COUNT}),
    "quotes in keys": closed({'say "hi"': COUNT, "back\\slash": COUNT, "new\nline": COUNT}),
    "unicode keys": closed({"größe": COUNT, "名前": TEXT, "émoji 🙂": {"type": "boolean"}}),
    "unicode values": closed({"wetter": {"enum": ["Schnee", "Nebel", "Föhn"]}, "天気": {"enum": ["雪", "霧"]}}),
}

SCALARS = {
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "text": {"type": "string", "maxLength": 60},
    "text without a limit": closed({"first_name": {"type": "string"}}),
    "const": closed({"kind": {"const": "invoice"}, "version": {"const": 2}, "draft": {"const": False}}),
    "const of parts": {"const": {"a": [1, 2, {"b": None}]}},
    "enum of texts": {"enum": ["red", "green", "blue"]},
    "enum of kinds": {"enum": [1, "one", None, True, [1], {"one": 1}]},
    "nullable by a list": closed({"nickname": {"type": ["string", "null"], "maxLength": 20}}),
    "nullable by anyOf": closed({"score": {"anyOf": [COUNT, {"type": "null"}]}}),
    "text or number": {"type": ["string", "integer"], "maxLength": 20, "minimum": 0},
    "any value": closed({"value": {"enum": [0, "", None]}}),
}

NUMBERS = {
    "percent": closed({"percent": {"type": "integer", "minimum": 0, "maximum": 100}}),
    "below zero": closed({"celsius": {"type": "integer", "minimum": -40, "maximum": -1}}),
    "one number": {"type": "integer", "minimum": 7, "maximum": 7},
    "exclusive": closed({"x": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}}),
    "exclusive fractions": closed({"p": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}}),
    "fractions": closed({"latitude": {"type": "number", "minimum": -90, "maximum": 90},
                         "longitude": {"type": "number", "minimum": -180, "maximum": 180}}),
    "narrow fractions": {"type": "number", "minimum": 0.25, "maximum": 0.26},
    "a year": closed({"year": {"type": "integer", "minimum": 1900, "maximum": 2100}}),
    "large": {"type": "integer", "minimum": 1_000_000, "maximum": 9_999_999_999},
    "multiple of 5": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000},
    "multiple of 7 that may be anything": closed({"days": {"type": "integer", "multipleOf": 7}}),
    "multiple of a quarter": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 10},
    "cents": closed({"price": {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1000}}),
}

TEXTS = {
    "length 5": closed({"code": {"type": "string", "minLength": 5, "maxLength": 5}}),
    "at least 3": {"type": "string", "minLength": 3, "maxLength": 30},
    "plate": closed({"plate": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,4}$"}}),
    "colour": closed({"colour": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}}),
    "slug": {"type": "string", "pattern": "^[a-z]+(-[a-z]+){0,3}$", "maxLength": 40},
    "phone": {"type": "string", "pattern": r"^\+[1-9]\d{6,12}$"},
    "version": closed({"version": {"type": "string", "pattern": r"^\d{1,2}\.\d{1,2}\.\d{1,2}$"}}),
    "alternatives": {"type": "string", "pattern": "^(north|south|east|west)$"},
    "cyrillic": {"type": "string", "pattern": "^[а-я]{2,8}$"},
    "escapes in a pattern": {"type": "string", "pattern": r'^"[a-z]{1,5}"\\$'},
    "date": closed({"born": {"type": "string", "format": "date"}}),
    "date-time": closed({"created_at": {"type": "string", "format": "date-time"}}),
    "time": closed({"at": {"type": "string", "format": "time"}}),
    "uuid": closed({"id": {"type": "string", "format": "uuid"}}),
    "email": closed({"email": {"type": "string", "format": "email"}}),
    "ipv4": closed({"address": {"type": "string", "format": "ipv4"}}),
    "ipv6": closed({"address": {"type": "string", "format": "ipv6"}}),
    "hostname": closed({"host": {"type": "string", "format": "hostname"}}),
    "duration": closed({"takes": {"type": "string", "format": "duration"}}),
}

ARRAYS = {
    "numbers": listed(COUNT, 5),
    "exactly three": listed(TEXT, 3, 3),
    "at least two": listed({"enum": ["rain", "sun", "snow"]}, 6, 2),
    "empty": {"type": "array", "maxItems": 0},
    "pair": {"type": "array", "prefixItems": [TEXT, COUNT], "items": False, "minItems": 2},
    "pair and more": {"type": "array", "prefixItems": [TEXT], "items": COUNT, "minItems": 1, "maxItems": 4},
    "pair as it was once written": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
                                    "items": [TEXT, COUNT], "additionalItems": False, "minItems": 2},
    "matrix": listed(listed({"type": "integer", "minimum": 0, "maximum": 9}, 3, 3), 3, 3),
    "of objects": listed(closed({"name": TEXT, "done": {"type": "boolean"}}), 3, 1),
    "of kinds": listed({"anyOf": [COUNT, {"type": "boolean"}, {"type": "null"}]}, 5, 2),
}

CHOICES = {
    "anyOf": {"anyOf": [closed({"cat": TEXT}), closed({"dog": TEXT})]},
    "oneOf by a tag": {"oneOf": [closed({"type": {"const": "circle"}, "radius": COUNT}),
                                 closed({"type": {"const": "square"}, "side": COUNT})]},
    "oneOf of types": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "boolean"}]},
    "allOf": {"allOf": [{"type": "object", "properties": {"a": COUNT}, "required": ["a"]},
                        {"properties": {"b": COUNT}, "required": ["b"]}], "maxProperties": 2},
    "allOf of bounds": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]},
    "choice within a choice": closed({"x": {"anyOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"const": "three"}]}}),
}

POINT = closed({"x": COUNT, "y": COUNT})
REFERENCES = {
    "a definition": {"$defs": {"point": POINT}, **closed({"from": {"$ref": "#/$defs/point"},
                                                          "to": {"$ref": "#/$defs/point"}})},
    "definitions": {"definitions": {"point": POINT}, **listed({"$ref": "#/definitions/point"}, 3, 1)},
    "a chain of definitions": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": COUNT},
                               "$ref": "#/$defs/a"},
    "another property": {"type": "object", "properties": {"a": COUNT, "b": {"$ref": "#/properties/a"}},
                         "required": ["a", "b"], "additionalProperties": False},
    "an escaped name": {"$defs": {"a/b": COUNT, "c~d": TEXT},
                        **closed({"x": {"$ref": "#/$defs/a~1b"}, "y": {"$ref": "#/$defs/c~0d"}})},
    "linked list": {"$defs": {"node": closed({"value": COUNT, "next": {"anyOf": [{"type": "null"},
                                                                                {"$ref": "#/$defs/node"}]}})},
                    "$ref": "#/$defs/node"},
    "tree": {"$defs": {"tree": closed({"name": TEXT, "children": listed({"$ref": "#/$defs/tree"}, 2)})},
             "$ref": "#/$defs/tree"},
    "binary tree": {"$defs": {"tree": closed({"value": COUNT, "left": {"$ref": "#/$defs/branch"},
                                              "right": {"$ref": "#/$defs/branch"}}),
                              "branch": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
                    "$ref": "#/$defs/tree"},
    "the whole again": closed({"text": TEXT, "reply": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}),
    "an expression": {"$defs": {"expression": {"anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 99},
        closed({"op": {"enum": ["+", "-", "*"]}, "of": listed({"$ref": "#/$defs/expression"}, 2, 2)})]}},
        **closed({"expression": {"$ref": "#/$defs/expression"}})},
}

# What can't be kept to token by token, or not yet; each is refused.
REFUSED = {
    "no value twice": listed(COUNT, 4, uniqueItems=True),
    "one of them at least": listed(COUNT, 4, contains={"const": 7}),
    "anything but": {"not": {"type": "string"}},
    "if and then": {"type": "object", "properties": {"a": COUNT}, "if": {"required": ["a"]},
                    "then": {"required": ["b"]}},
    "one with the other": {"type": "object", "properties": {"a": COUNT, "b": COUNT}, "dependentRequired": {"a": ["b"]}},
    "names by a schema": {"type": "object", "propertyNames": {"maxLength": 3}},
    "some of the optional ones": {"type": "object", "properties": {"a": COUNT, "b": COUNT, "c": COUNT},
                                  "required": ["a"], "maxProperties": 2},
    "an unknown format": {"type": "string", "format": "phone-number"},
    "look-ahead": {"type": "string", "pattern": "^(?=.*[0-9])[a-z0-9]{8}$"},
    "elsewhere": {"$ref": "https://example.com/schema.json"},
}

DOCUMENTS = {
    "invoice": closed({
        "number": {"type": "string", "pattern": "^R[0-9]{4}$"}, "date": {"type": "string", "format": "date"},
        "lines": listed(closed({"what": TEXT, "units": COUNT, "price": {"type": "number", "minimum": 0,
                                                                       "maximum": 1000}}), 3, 1),
        "paid": {"type": "boolean"}}),
    "weather": closed({
        "place": closed({"name": TEXT, "country": {"type": "string", "pattern": "^[A-Z]{2}$"}}),
        "days": listed(closed({"day": {"enum": ["Monday", "Tuesday", "Wednesday"]},
                               "high": {"type": "integer", "minimum": -50, "maximum": 60},
                               "low": {"type": "integer", "minimum": -50, "maximum": 60}}), 2, 2)}),
    "recipe": closed({"title": TEXT, "minutes": COUNT, "steps": listed(TEXT, 4, 2),
                      "vegetarian": {"type": ["boolean", "null"]}}, ["title", "steps"]),
    "tool call": closed({"name": {"enum": ["search", "open"]},
                         "arguments": closed({"query": TEXT, "limit": COUNT}, ["query"])}),
    "classification": closed({"label": {"enum": ["positive", "negative", "neutral"]},
                              "confidence": {"type": "number", "minimum": 0, "maximum": 1}, "why": TEXT}),
}


def refused_cases():
    """(name, schema) of those that no reply is promised to keep to."""
    yield from REFUSED.items()


def written_cases():
    """(name, schema) of all that are above."""
    for kind, cases in [("object", OBJECTS), ("scalar", SCALARS), ("number", NUMBERS), ("text", TEXTS),
                        ("array", ARRAYS), ("choice", CHOICES), ("reference", REFERENCES), ("document", DOCUMENTS)]:
        for name, schema in cases.items():
            yield f"{kind}: {name}", schema

//! JSON schemas as the grammar compiler takes them: checked as a whole, with only those keywords that it keeps to, and
//! with every reference to a place of its own under "$defs". What it would pass over in silence is refused here, with
//! the place in the schema as it was written.

use std::collections::HashMap;

use serde_json::{json, Map, Value};

use crate::failure::{Failure, Outcome};
use crate::schema_keywords as keywords;
use crate::schema_keywords::{escaped, invalid, shortened, stricter, unsupported, Room};
use crate::schema_places::{options, Places, Target};

const MOST_PROPERTIES: usize = 1_000; // of an object
const MOST_OPTIONS: usize = 500; // of a oneOf: each is compared with each

/// They say something about the value that no grammar here says.
const UNSUPPORTED: [&str; 16] = [
    "not",
    "if",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
    "$recursiveAnchor",
    "$dynamicAnchor",
];

/// The text of a schema, as the compiler takes it.
pub fn read(text: &str) -> Outcome<Value> {
    let parsed = serde_json::from_str(text).map_err(|error| Failure::InvalidSchema(format!("not JSON: {error}")))?;
    prepare(&parsed)
}

pub fn prepare(schema: &Value) -> Outcome<Value> {
    let mut reader = Reader { root: schema, targets: Vec::new(), ids: HashMap::new(), room: Room::new() };
    let root = reader.read_all()?;
    let places = Places { targets: reader.targets };
    places.refuse_empty_cycles(&root)?;
    places.refuse_endless(&root)?;
    let mut whole = places.whole(&root)?;
    places.refuse_what_cannot_be_compiled(&root, &whole)?;
    options().apply_to(&mut whole);
    Ok(whole)
}

struct Reader<'a> {
    root: &'a Value,
    targets: Vec<Target>,
    ids: HashMap<String, usize>, // by pointer
    room: Room,
}

impl<'a> Reader<'a> {
    fn read_all(&mut self) -> Outcome<Value> {
        let root = self.schema(self.root, "#")?;
        // Reading one may find more.
        let mut next = 0;
        while next < self.targets.len() {
            let pointer = self.targets[next].pointer.clone();
            let found = self.root.pointer(&pointer).expect("found before");
            self.targets[next].schema = self.schema(found, &format!("#{pointer}"))?;
            next += 1;
        }
        Ok(root)
    }

    fn schema(&mut self, node: &'a Value, at: &str) -> Outcome<Value> {
        self.room.take(1, 0, at)?;
        let all = match node {
            Value::Bool(_) => return Ok(node.clone()),
            Value::Object(all) => all,
            _ => return invalid(at, format!("a schema is an object or a boolean, not {}", shortened(node))),
        };
        let mut read = Map::new();
        for (key, value) in all {
            let place = format!("{at}/{}", escaped(key));
            if let Some((key, value)) = self.keyword(key, value, all, &place)? {
                read.insert(key, value);
            }
        }
        keywords::refuse_repeated_names(all, at)?;
        keywords::move_excluded_bounds(&mut read);
        let patterns = read.get("format").and_then(Value::as_str).map_or(&[][..], stricter);
        if !patterns.is_empty() {
            let all = read.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
            all.as_array_mut().expect("a list").extend(patterns.iter().map(|pattern| json!({ "pattern": pattern })));
        }
        Ok(Value::Object(read))
    }

    /// The keyword as it goes on; nothing when it says nothing about the value.
    fn keyword(
        &mut self,
        key: &str,
        value: &'a Value,
        beside: &'a Map<String, Value>,
        at: &str,
    ) -> Outcome<Option<(String, Value)>> {
        let read = match key {
            "type" => keywords::types(value, at)?,
            "enum" | "const" => keywords::choices(key, value, &mut self.room, at)?,
            "properties" | "patternProperties" => self.named(key, value, at)?,
            "additionalProperties" => self.schema(value, at)?,
            "items" if value.is_array() => return Ok(Some(("prefixItems".into(), self.listed(key, value, at)?))),
            // Only where "items" is a list does it say anything.
            "additionalItems" if !beside.get("items").is_some_and(Value::is_array) => return Ok(None),
            "additionalItems" => return Ok(Some(("items".into(), self.schema(value, at)?))),
            "items" => self.schema(value, at)?,
            "prefixItems" | "allOf" | "anyOf" | "oneOf" => self.listed(key, value, at)?,
            "$ref" => self.reference(value, at)?,
            "required" => keywords::names(value, &mut self.room, at)?,
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                return keywords::length(key, value, at).map(|length| length.map(|length| (key.into(), length)))
            }
            "minimum" | "maximum" | "multipleOf" => keywords::bound(key, value, at)?,
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => value.clone(),
            "exclusiveMinimum" | "exclusiveMaximum" => keywords::bound(key, value, at)?,
            "pattern" => keywords::pattern(value, at)?,
            "format" => match keywords::format(value, beside, at)? {
                Some(format) => format,
                None => return Ok(None),
            },
            "$id" if at != "#/$id" && value.as_str().is_some_and(|id| !id.starts_with('#')) => {
                return unsupported(at, "a schema within a schema can't have its own $id")
            }
            _ if UNSUPPORTED.contains(&key) && !keywords::says_nothing(key, value, beside) => {
                return unsupported(at, format!("{key} is not supported"))
            }
            _ => return Ok(None),
        };
        Ok(Some((key.into(), read)))
    }

    fn named(&mut self, key: &str, value: &'a Value, at: &str) -> Outcome<Value> {
        let Value::Object(all) = value else {
            return invalid(at, format!("{key} is an object of schemas, not {}", shortened(value)));
        };
        if all.len() > MOST_PROPERTIES {
            return unsupported(at, format!("{} names are over the limit of {MOST_PROPERTIES}", all.len()));
        }
        let mut read = Map::new();
        for (name, schema) in all {
            let place = format!("{at}/{}", escaped(name));
            if key == "patternProperties" {
                keywords::pattern(&Value::String(name.clone()), &place)?;
            }
            keywords::literal(name, at)?;
            self.room.take(0, name.len(), at)?;
            read.insert(name.clone(), self.schema(schema, &place)?);
        }
        Ok(Value::Object(read))
    }

    fn listed(&mut self, key: &str, value: &'a Value, at: &str) -> Outcome<Value> {
        let Some(all) = value.as_array().filter(|all| !all.is_empty() || key == "items") else {
            return invalid(at, format!("{key} is a list of schemas, not {}", shortened(value)));
        };
        if key == "oneOf" && all.len() > MOST_OPTIONS {
            return unsupported(at, format!("{} options are over the limit of {MOST_OPTIONS}", all.len()));
        }
        let read = |(i, schema)| self.schema(schema, &format!("{at}/{i}"));
        all.iter().enumerate().map(read).collect::<Outcome<Vec<_>>>().map(Value::Array)
    }

    fn reference(&mut self, value: &Value, at: &str) -> Outcome<Value> {
        let Some(reference) = value.as_str() else {
            return invalid(at, format!("$ref is a text, not {}", shortened(value)));
        };
        let own = self.root.get("$id").or(self.root.get("id")).and_then(Value::as_str).unwrap_or_default();
        let local = reference.strip_prefix(own).filter(|_| !own.is_empty()).unwrap_or(reference);
        let Some(fragment) = local.strip_prefix('#') else {
            let shown = shortened(value);
            return unsupported(at, format!("only a reference within the schema (#/...) can be followed, not {shown}"));
        };
        let fragment = percent_decoded(fragment);
        let pointer = match fragment.as_str() {
            "" | "/" => return Ok(Value::String("#".into())),
            pointer if pointer.starts_with('/') => Some(pointer.to_string()),
            anchor => anchored(self.root, anchor, &mut String::new()),
        };
        let Some(pointer) = pointer.filter(|pointer| self.root.pointer(pointer).is_some()) else {
            return invalid(at, format!("{} leads nowhere", shortened(value)));
        };
        let next = self.ids.len();
        let id = *self.ids.entry(pointer.clone()).or_insert(next);
        if id == self.targets.len() {
            self.targets.push(Target { pointer, schema: Value::Null });
        }
        Ok(Value::String(format!("#/$defs/{id}")))
    }
}

/// The pointer to the schema with this anchor.
fn anchored(node: &Value, anchor: &str, pointer: &mut String) -> Option<String> {
    if node.get("$anchor").and_then(Value::as_str) == Some(anchor) {
        return Some(pointer.clone());
    }
    let length = pointer.len();
    let mut child = |key: String, value: &Value| {
        pointer.push('/');
        pointer.push_str(&key);
        let found = anchored(value, anchor, pointer);
        pointer.truncate(length);
        found
    };
    match node {
        Value::Object(all) => all.iter().find_map(|(key, value)| child(escaped(key), value)),
        Value::Array(all) => all.iter().enumerate().find_map(|(i, value)| child(i.to_string(), value)),
        _ => None,
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_string())
}

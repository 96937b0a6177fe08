//! JSON schemas as the grammar compiler takes them: checked as a whole, with only those keywords that it keeps to, and
//! with every reference to a place of its own under "$defs". What it would pass over in silence is refused here, with
//! the place in the schema as it was written.

use std::collections::HashMap;

use llguidance::api::ParserLimits;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{json, Map, Value};

use crate::failure::{Failure, Outcome};
use crate::grammar::reason_of;

/// Of subschemas, those that references lead to included.
const MOST_NODES: usize = 20_000;
const MOST_CHOICES: usize = 10_000; // of an enum
const MOST_PROPERTIES: usize = 1_000; // of an object
const MOST_OPTIONS: usize = 500; // of a oneOf: each is compared with each
const MOST_LENGTH: u64 = 100_000; // of texts, arrays and objects
const MOST_PATTERN_BYTES: usize = 10_000;
/// Attempts to find the place of what the compiler refuses.
const MOST_ATTEMPTS: usize = 200;
/// From it on a number may not be what its digits say.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const FORMATS: [&str; 10] =
    ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
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

/// A line break may be followed by so much, and there is one blank where there is none: a model that pads for ever
/// soon has to go on.
const BLANKS: &str = r"\x20|\n(\x20{0,20}|\t{0,8})";

/// The text of a schema, as the compiler takes it.
pub fn read(text: &str) -> Outcome<Value> {
    let parsed = serde_json::from_str(text).map_err(|error| Failure::InvalidSchema(format!("not JSON: {error}")))?;
    prepare(&parsed)
}

pub fn prepare(schema: &Value) -> Outcome<Value> {
    let mut reader = Reader { root: schema, targets: Vec::new(), ids: HashMap::new(), nodes: 0 };
    let root = reader.read_all()?;
    let places = Places { targets: reader.targets };
    places.refuse_empty_cycles(&root)?;
    places.refuse_endless(&root)?;
    let mut whole = places.with_definitions(places.inline_options(&root));
    places.refuse_what_cannot_be_compiled(&root, &whole)?;
    options().apply_to(&mut whole);
    Ok(whole)
}

fn options() -> JsonCompileOptions {
    JsonCompileOptions { whitespace_pattern: Some(BLANKS.into()), ..JsonCompileOptions::default() }
}

fn invalid<T>(at: &str, reason: impl AsRef<str>) -> Outcome<T> {
    Err(Failure::InvalidSchema(format!("{at}: {}", reason.as_ref())))
}

fn unsupported<T>(at: &str, reason: impl AsRef<str>) -> Outcome<T> {
    Err(Failure::UnsupportedSchema(format!("{at}: {}", reason.as_ref())))
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// What a reference leads to.
struct Target {
    pointer: String, // from the root, "" or "/a/b"
    schema: Value,
}

struct Reader<'a> {
    root: &'a Value,
    targets: Vec<Target>,
    ids: HashMap<String, usize>, // by pointer
    nodes: usize,
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
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return unsupported(at, format!("the schema has more than {MOST_NODES} parts"));
        }
        let keywords = match node {
            Value::Bool(_) => return Ok(node.clone()),
            Value::Object(keywords) => keywords,
            _ => return invalid(at, format!("a schema is an object or a boolean, not {}", shortened(node))),
        };
        let mut read = Map::new();
        for (key, value) in keywords {
            let place = format!("{at}/{}", escaped(key));
            if let Some((key, value)) = self.keyword(key, value, keywords, &place)? {
                read.insert(key, value);
            }
        }
        refuse_repeated_names(keywords, at)?;
        move_excluded_bounds(&mut read);
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
            "type" => types(value, at)?,
            "enum" | "const" => choices(key, value, at)?,
            "properties" | "patternProperties" => self.named(key, value, at)?,
            "additionalProperties" => self.schema(value, at)?,
            "items" if value.is_array() => return Ok(Some(("prefixItems".into(), self.listed(key, value, at)?))),
            // Only where "items" is a list does it say anything.
            "additionalItems" if !beside.get("items").is_some_and(Value::is_array) => return Ok(None),
            "additionalItems" => return Ok(Some(("items".into(), self.schema(value, at)?))),
            "items" => self.schema(value, at)?,
            "prefixItems" | "allOf" | "anyOf" | "oneOf" => self.listed(key, value, at)?,
            "$ref" => self.reference(value, at)?,
            "required" => names(value, at)?,
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                return length(key, value, at).map(|length| length.map(|length| (key.into(), length)))
            }
            "minimum" | "maximum" | "multipleOf" => bound(key, value, at)?,
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => value.clone(),
            "exclusiveMinimum" | "exclusiveMaximum" => bound(key, value, at)?,
            "pattern" => pattern(value, at)?,
            "format" => match format(value, beside, at)? {
                Some(format) => format,
                None => return Ok(None),
            },
            "$id" if at != "#/$id" && value.as_str().is_some_and(|id| !id.starts_with('#')) => {
                return unsupported(at, "a schema within a schema can't have its own $id")
            }
            _ if UNSUPPORTED.contains(&key) && !says_nothing(key, value, beside) => {
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
                pattern(&Value::String(name.clone()), &place)?;
            }
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

fn says_nothing(key: &str, value: &Value, beside: &Map<String, Value>) -> bool {
    match key {
        "if" => !beside.contains_key("then") && !beside.contains_key("else"),
        "uniqueItems" => *value == Value::Bool(false),
        "minContains" | "maxContains" => !beside.contains_key("contains"),
        "unevaluatedItems" | "unevaluatedProperties" | "propertyNames" => {
            *value == Value::Bool(true) || value.as_object().is_some_and(Map::is_empty)
        }
        "dependencies" | "dependentRequired" | "dependentSchemas" => value.as_object().is_some_and(Map::is_empty),
        "$dynamicAnchor" | "$recursiveAnchor" => true,
        _ => false,
    }
}

/// A model may write a name that the schema doesn't list twice, and the second takes the place of the first.
fn refuse_repeated_names(keywords: &Map<String, Value>, at: &str) -> Outcome<()> {
    let least = keywords.get("minProperties").and_then(Value::as_f64).unwrap_or(0.0);
    let required = keywords.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let closed = keywords.get("additionalProperties") == Some(&Value::Bool(false));
    if least > required as f64 + 1.0 && !closed {
        return unsupported(
            &format!("{at}/minProperties"),
            "more than one property beyond the required ones is supported only where additionalProperties is false",
        );
    }
    Ok(())
}

fn types(value: &Value, at: &str) -> Outcome<Value> {
    let names: Vec<&Value> = match value {
        Value::Array(names) if !names.is_empty() => names.iter().collect(),
        name => vec![name],
    };
    for name in names {
        if !name.as_str().is_some_and(|name| TYPES.contains(&name)) {
            return invalid(at, format!("unknown type {}; one of {}", shortened(name), TYPES.join(", ")));
        }
    }
    Ok(value.clone())
}

fn choices(key: &str, value: &Value, at: &str) -> Outcome<Value> {
    let all = match (key, value) {
        ("const", one) => std::slice::from_ref(one),
        (_, Value::Array(all)) if !all.is_empty() => all.as_slice(),
        _ => return invalid(at, format!("enum is a list of values, not {}", shortened(value))),
    };
    if all.len() > MOST_CHOICES {
        return unsupported(at, format!("{} values are over the limit of {MOST_CHOICES}", all.len()));
    }
    let mut nodes = 0;
    all.iter().try_for_each(|one| exact(one, &mut nodes, at))?;
    Ok(value.clone())
}

/// Whether the compiler, which computes with doubles, takes every number in the value for what it is.
fn exact(value: &Value, nodes: &mut usize, at: &str) -> Outcome<()> {
    *nodes += 1;
    if *nodes > MOST_NODES {
        return unsupported(at, format!("the values have more than {MOST_NODES} parts"));
    }
    match value {
        Value::Array(all) => all.iter().try_for_each(|one| exact(one, nodes, at)),
        Value::Object(all) => all.values().try_for_each(|one| exact(one, nodes, at)),
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() >= MOST_EXACT) => {
            unsupported(at, format!("{number} is beyond what is exact, 2^53"))
        }
        _ => Ok(()),
    }
}

fn names(value: &Value, at: &str) -> Outcome<Value> {
    if !value.as_array().is_some_and(|names| names.iter().all(Value::is_string)) {
        return invalid(at, format!("required is a list of names, not {}", shortened(value)));
    }
    Ok(value.clone())
}

/// No value: it allows everything.
fn length(key: &str, value: &Value, at: &str) -> Outcome<Option<Value>> {
    let Some(length) = value.as_f64().filter(|length| *length >= 0.0 && length.fract() == 0.0) else {
        return invalid(at, format!("{key} is a whole number from 0 on, not {}", shortened(value)));
    };
    if length <= MOST_LENGTH as f64 {
        return Ok(Some(Value::from(length as u64)));
    }
    if key.starts_with("max") {
        // No reply is that long.
        return Ok(None);
    }
    unsupported(at, format!("{} is over the limit of {MOST_LENGTH}", shortened(value)))
}

fn bound(key: &str, value: &Value, at: &str) -> Outcome<Value> {
    let Some(number) = value.as_f64() else {
        return invalid(at, format!("{key} is a number, not {}", shortened(value)));
    };
    if key == "multipleOf" && number <= 0.0 {
        return invalid(at, format!("multipleOf is a number above 0, not {}", shortened(value)));
    }
    exact(value, &mut 0, at)?;
    Ok(value.clone())
}

/// The compiler takes a whole number that is excluded as a bound for a possible value where the other bound is less than
/// one away. The number next to it, as a bound that is possible, leaves out no more than what is between them.
fn move_excluded_bounds(read: &mut Map<String, Value>) {
    let number = |key: &str| read.get(key).and_then(Value::as_f64);
    let least = number("minimum").into_iter().chain(number("exclusiveMinimum")).reduce(f64::max);
    let most = number("maximum").into_iter().chain(number("exclusiveMaximum")).reduce(f64::min);
    let (Some(least), Some(most)) = (least, most) else { return };
    let is_excluded = |key: &str, bound: f64| number(key) == Some(bound) && bound.fract() == 0.0;
    let (above, below) = (is_excluded("exclusiveMinimum", least), is_excluded("exclusiveMaximum", most));
    if most - least > 1.0 || read.get("type").is_some_and(|name| name == "integer") {
        return;
    }
    if above {
        read.remove("exclusiveMinimum");
        read.insert("minimum".into(), Value::from(next_above(least)));
    }
    if below {
        read.remove("exclusiveMaximum");
        read.insert("maximum".into(), Value::from(-next_above(-most)));
    }
}

fn next_above(number: f64) -> f64 {
    let nearest_to_zero = 1e-12;
    match number {
        number if number.abs() < nearest_to_zero => nearest_to_zero,
        number if number > 0.0 => f64::from_bits(number.to_bits() + 1),
        number => f64::from_bits(number.to_bits() - 1),
    }
}

fn pattern(value: &Value, at: &str) -> Outcome<Value> {
    let Some(pattern) = value.as_str() else {
        return invalid(at, format!("pattern is a text, not {}", shortened(value)));
    };
    if pattern.len() > MOST_PATTERN_BYTES {
        return unsupported(at, format!("{} bytes are over the limit of {MOST_PATTERN_BYTES}", pattern.len()));
    }
    let expression = llguidance::regex_to_lark(pattern, "dw");
    match llguidance::derivre::RegexBuilder::new().mk_regex_for_serach(&expression) {
        Ok(_) => Ok(value.clone()),
        Err(error) => unsupported(at, format!("the pattern can't be kept to: {}", reason_of(error))),
    }
}

fn format(value: &Value, beside: &Map<String, Value>, at: &str) -> Outcome<Option<Value>> {
    let Some(name) = value.as_str() else {
        return invalid(at, format!("format is a text, not {}", shortened(value)));
    };
    let may_be_text = match beside.get("type") {
        Some(Value::Array(types)) => types.iter().any(|name| name == "string"),
        Some(name) => name == "string",
        None => true,
    };
    if !may_be_text {
        return Ok(None);
    }
    if !FORMATS.contains(&name) {
        return unsupported(at, format!("unknown format {}; one of {}", shortened(value), FORMATS.join(", ")));
    }
    Ok(Some(value.clone()))
}

/// What a format must match beside the compiler's own expression, which allows 29 February in every year, leap seconds
/// and the year 0: other readers refuse these.
fn stricter(format: &str) -> &'static [&'static str] {
    const YEAR: &str = "^(?:[1-9]|0[1-9]|00[1-9]|000[1-9])";
    const DAY: &str = concat!(
        "^(?:[0-9]{4}-(?:0[13-9]|1[0-2])|[0-9]{4}-02-[01]|[0-9]{4}-02-2[0-8]|",
        "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)",
    );
    match format {
        "date" => &[YEAR, DAY],
        "date-time" => &[YEAR, DAY, "T[0-9:]{6}[0-5].*[0-9Z]$"],
        "time" => &["^[0-9:]{6}[0-5].*[0-9Z]$"],
        _ => &[],
    }
}

/// A whole schema that was read, and what its references lead to.
struct Places {
    targets: Vec<Target>,
}

/// "#/$defs/7" → 7; none is the root.
fn target_of(reference: &Value) -> Option<usize> {
    reference.as_str().and_then(|reference| reference.strip_prefix("#/$defs/")).and_then(|id| id.parse().ok())
}

const IN_PLACE: [&str; 3] = ["allOf", "anyOf", "oneOf"];

impl Places {
    /// The schemas by themselves, the root last.
    fn all<'a>(&'a self, root: &'a Value) -> Vec<&'a Value> {
        self.targets.iter().map(|target| &target.schema).chain([root]).collect()
    }

    fn pointer(&self, id: usize) -> String {
        format!("#{}", self.targets.get(id).map_or("", |target| target.pointer.as_str()))
    }

    /// A reference that leads back to where it stands says nothing at all.
    fn refuse_empty_cycles(&self, root: &Value) -> Outcome<()> {
        fn followed(schema: &Value, root: usize, all: &mut Vec<usize>) {
            if let Some(reference) = schema.get("$ref") {
                all.push(target_of(reference).unwrap_or(root));
            }
            for options in IN_PLACE.iter().filter_map(|key| schema.get(key)?.as_array()) {
                options.iter().for_each(|option| followed(option, root, all));
            }
        }
        let schemas = self.all(root);
        let edges: Vec<Vec<usize>> = schemas
            .iter()
            .map(|schema| {
                let mut all = Vec::new();
                followed(schema, self.targets.len(), &mut all);
                all
            })
            .collect();
        // Those without a way on go first, then those that lead to such ones alone; a cycle stays.
        let mut open: Vec<usize> = edges.iter().map(Vec::len).collect();
        let mut backwards = vec![Vec::new(); edges.len()];
        for (from, all) in edges.iter().enumerate() {
            all.iter().for_each(|to| backwards[*to].push(from));
        }
        let mut done: Vec<usize> = (0..edges.len()).filter(|id| open[*id] == 0).collect();
        while let Some(id) = done.pop() {
            for from in &backwards[id] {
                open[*from] -= 1;
                if open[*from] == 0 {
                    done.push(*from);
                }
            }
        }
        match open.iter().position(|ways| *ways > 0) {
            Some(id) => invalid(&self.pointer(id), "a $ref leads back to itself with nothing between"),
            None => Ok(()),
        }
    }

    /// What needs itself as a part never ends.
    fn refuse_endless(&self, root: &Value) -> Outcome<()> {
        let schemas = self.all(root);
        let mut ends = vec![false; schemas.len()];
        // Each round reaches a level further.
        for _ in 0..200 {
            let next: Vec<bool> = (0..ends.len()).map(|id| ends[id] || can_end(schemas[id], &ends)).collect();
            if next == ends {
                break;
            }
            ends = next;
        }
        match ends.iter().position(|ends| !ends) {
            Some(id) if !ends[self.targets.len()] => invalid(&self.pointer(id), "nothing of finite size satisfies it"),
            _ => Ok(()),
        }
    }

    /// References that are options of a oneOf become what they lead to, so that the options can be told apart.
    fn inline_options(&self, schema: &Value) -> Value {
        match schema {
            Value::Array(all) => Value::Array(all.iter().map(|one| self.inline_options(one)).collect()),
            Value::Object(all) => {
                let inline = |(key, value): (&String, &Value)| {
                    let value = match (key.as_str(), value) {
                        // Values, not schemas.
                        ("enum" | "const" | "required", value) => value.clone(),
                        ("oneOf", Value::Array(options)) => {
                            Value::Array(options.iter().map(|option| self.resolved(option)).collect())
                        }
                        (_, value) => self.inline_options(value),
                    };
                    (key.clone(), value)
                };
                Value::Object(all.iter().map(inline).collect())
            }
            other => other.clone(),
        }
    }

    fn resolved(&self, option: &Value) -> Value {
        let mut found = option;
        while let Some(id) = found.as_object().filter(|all| all.len() == 1).and_then(|all| target_of(all.get("$ref")?))
        {
            found = &self.targets[id].schema;
        }
        found.clone()
    }

    fn with_definitions(&self, root: Value) -> Value {
        let mut whole = match root {
            Value::Object(all) => all,
            Value::Bool(false) => Map::from_iter([("anyOf".to_string(), Value::Array(vec![Value::Bool(false)]))]),
            _ => Map::new(),
        };
        if !self.targets.is_empty() {
            let named = |(id, target): (usize, &Target)| (id.to_string(), self.inline_options(&target.schema));
            whole.insert("$defs".into(), Value::Object(self.targets.iter().enumerate().map(named).collect()));
        }
        Value::Object(whole)
    }

    fn refuse_what_cannot_be_compiled(&self, root: &Value, whole: &Value) -> Outcome<()> {
        let Err(reason) = compile(whole) else { return Ok(()) };
        let mut search = Search { places: self, attempts: 0, seen: vec![false; self.targets.len()] };
        let (at, reason) = search.deepest(root, "#".into(), reason);
        match reason.strip_prefix("Unsatisfiable schema: ") {
            Some(reason) => invalid(&at, format!("nothing satisfies it: {reason}")),
            None => unsupported(&at, reason),
        }
    }
}

/// Whether a value of finite size can satisfy it, as far as one knows of what its references lead to.
fn can_end(schema: &Value, ends: &[bool]) -> bool {
    let Value::Object(all) = schema else { return *schema != Value::Bool(false) };
    let part = |key: &str| all.get(key).is_none_or(|part| can_end(part, ends));
    let list = |key: &str| all.get(key).and_then(Value::as_array);
    if let Some(reference) = all.get("$ref") {
        if !ends[target_of(reference).unwrap_or(ends.len() - 1)] {
            return false;
        }
    }
    let all_of = list("allOf").is_none_or(|parts| parts.iter().all(|part| can_end(part, ends)));
    let some_of = |key: &str| list(key).is_none_or(|options| options.iter().any(|option| can_end(option, ends)));
    if !all_of || !some_of("anyOf") || !some_of("oneOf") {
        return false;
    }
    let may_be = |name: &str| match all.get("type") {
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        Some(one) => one == name,
        None => true,
    };
    let property = |name: &Value| match name.as_str().and_then(|name| all.get("properties")?.get(name)) {
        Some(property) => can_end(property, ends),
        None => all.contains_key("patternProperties") || part("additionalProperties"),
    };
    let has_items = all.get("minItems").and_then(Value::as_u64).unwrap_or(0) > 0;
    TYPES[..5].iter().any(|name| may_be(name))
        || may_be("object") && list("required").is_none_or(|names| names.iter().all(property))
        || may_be("array") && (!has_items || list("prefixItems").is_some() || part("items"))
}

/// By the compiler alone, without a vocabulary: what it refuses.
fn compile(schema: &Value) -> Result<(), String> {
    let builder = GrammarBuilder::new(None, ParserLimits::default());
    let made = options().json_to_llg_no_validate(builder, schema.clone());
    made.map(|_| ()).map_err(|error| match reason_of(error) {
        reason if reason.starts_with("oneOf") => {
            "the options of oneOf can't be told apart by their types, nor by a required property".into()
        }
        reason => reason,
    })
}

/// Looks for the smallest part of a schema that can't be compiled.
struct Search<'a> {
    places: &'a Places,
    attempts: usize,
    seen: Vec<bool>,
}

impl<'a> Search<'a> {
    fn deepest(&mut self, schema: &'a Value, at: String, reason: String) -> (String, String) {
        for (part, place) in self.parts(schema, &at) {
            self.attempts += 1;
            if self.attempts > MOST_ATTEMPTS {
                break;
            }
            let alone = self.places.with_definitions(self.places.inline_options(part));
            if let Err(cause) = compile(&alone) {
                let is_alike = cause.starts_with("Unsatisfiable") == reason.starts_with("Unsatisfiable");
                if is_alike {
                    return self.deepest(part, place, cause);
                }
            }
        }
        (at, reason)
    }

    fn parts(&mut self, schema: &'a Value, at: &str) -> Vec<(&'a Value, String)> {
        let Value::Object(all) = schema else { return Vec::new() };
        let mut parts = Vec::new();
        for (key, value) in all {
            match (key.as_str(), value) {
                ("properties" | "patternProperties", Value::Object(named)) => {
                    parts.extend(named.iter().map(|(name, part)| (part, format!("{at}/{key}/{}", escaped(name)))));
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => {
                    parts.extend(list.iter().enumerate().map(|(i, part)| (part, format!("{at}/{key}/{i}"))));
                }
                ("items" | "additionalProperties", part) => parts.push((part, format!("{at}/{key}"))),
                ("$ref", reference) => {
                    if let Some(id) = target_of(reference).filter(|id| !self.seen[*id]) {
                        self.seen[id] = true;
                        parts.push((&self.places.targets[id].schema, self.places.pointer(id)));
                    }
                }
                _ => {}
            }
        }
        parts
    }
}

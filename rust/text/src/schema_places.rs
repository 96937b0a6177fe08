//! What the references of a JSON schema lead to: cycles that say nothing, schemas that no value satisfies, and the
//! place of what the compiler refuses.

use std::time::{Duration, Instant};

use llguidance::api::ParserLimits;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value};

use crate::failure::Outcome;
use crate::grammar::reason_of;
use crate::schema_keywords::{escaped, invalid, unsupported, Room, TYPES};

/// Attempts to find the place of what the compiler refuses.
const MOST_ATTEMPTS: usize = 200;
const MOST_SEARCH: Duration = Duration::from_millis(300);
/// Looked at to tell whether something of finite size satisfies the schema.
const MOST_LOOKS: usize = 4_000_000;

/// A line break may be followed by so much, and there is one blank where there is none: a model that pads for ever
/// soon has to go on.
const BLANKS: &str = r"\x20|\n(\x20{0,20}|\t{0,8})";

pub fn options() -> JsonCompileOptions {
    JsonCompileOptions { whitespace_pattern: Some(BLANKS.into()), ..JsonCompileOptions::default() }
}

/// What a reference leads to.
pub struct Target {
    pub pointer: String, // from the root, "" or "/a/b"
    pub schema: Value,
}

/// A whole schema that was read, and what its references lead to.
pub struct Places {
    pub targets: Vec<Target>,
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
    pub fn refuse_empty_cycles(&self, root: &Value) -> Outcome<()> {
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
    pub fn refuse_endless(&self, root: &Value) -> Outcome<()> {
        let schemas = self.all(root);
        let mut ends = vec![false; schemas.len()];
        let mut parts = vec![0; schemas.len()];
        let mut needed_by = vec![Vec::new(); schemas.len()];
        for (id, schema) in schemas.iter().enumerate() {
            let mut needs = Vec::new();
            parts[id] = parts_of(schema, self.targets.len(), &mut needs);
            needs.into_iter().for_each(|need: usize| needed_by[need].push(id));
        }
        // Whatever ends may let those end that need it.
        let mut open: Vec<usize> = (0..schemas.len()).collect();
        let mut is_open = vec![true; schemas.len()];
        let mut looks = 0;
        while let Some(id) = open.pop() {
            is_open[id] = false;
            looks += parts[id];
            if looks > MOST_LOOKS {
                return unsupported(&self.pointer(id), "too many references depend on one another");
            }
            ends[id] = can_end(schemas[id], &ends);
            for from in needed_by[id].iter().filter(|_| ends[id]) {
                if !ends[*from] && !is_open[*from] {
                    is_open[*from] = true;
                    open.push(*from);
                }
            }
        }
        match ends.iter().position(|ends| !ends) {
            Some(id) if !ends[self.targets.len()] => invalid(&self.pointer(id), "nothing of finite size satisfies it"),
            _ => Ok(()),
        }
    }

    /// As the compiler takes it: with the definitions that its references lead to.
    pub fn whole(&self, schema: &Value) -> Outcome<Value> {
        let mut room = Room::new();
        let mut whole = match self.inline_options(schema, &mut room)? {
            Value::Object(all) => all,
            Value::Bool(false) => Map::from_iter([("anyOf".to_string(), Value::Array(vec![Value::Bool(false)]))]),
            _ => Map::new(),
        };
        if !self.targets.is_empty() {
            let mut named = Map::new();
            for (id, target) in self.targets.iter().enumerate() {
                named.insert(id.to_string(), self.inline_options(&target.schema, &mut room)?);
            }
            whole.insert("$defs".into(), Value::Object(named));
        }
        Ok(Value::Object(whole))
    }

    /// References that are options of a oneOf become what they lead to, so that the options can be told apart. Such
    /// copies take room.
    fn inline_options(&self, schema: &Value, room: &mut Room) -> Outcome<Value> {
        let Value::Object(all) = schema else {
            let Value::Array(all) = schema else { return Ok(schema.clone()) };
            return all.iter().map(|one| self.inline_options(one, room)).collect::<Outcome<_>>().map(Value::Array);
        };
        let mut inlined = Map::new();
        for (key, value) in all {
            let value = match (key.as_str(), value) {
                // Values, not schemas.
                ("enum" | "const" | "required", value) => value.clone(),
                ("oneOf", Value::Array(options)) => {
                    let options = options.iter().map(|option| self.resolved(option, room));
                    Value::Array(options.collect::<Outcome<_>>()?)
                }
                (_, value) => self.inline_options(value, room)?,
            };
            inlined.insert(key.clone(), value);
        }
        Ok(Value::Object(inlined))
    }

    fn resolved(&self, option: &Value, room: &mut Room) -> Outcome<Value> {
        let mut found = option;
        let mut last = None;
        while let Some(id) = found.as_object().filter(|all| all.len() == 1).and_then(|all| target_of(all.get("$ref")?))
        {
            room.take(1, 0, &self.pointer(id))?;
            found = &self.targets[id].schema;
            last = Some(id);
        }
        if let Some(id) = last {
            room.take_all(found, &self.pointer(id))?;
        }
        Ok(found.clone())
    }

    pub fn refuse_what_cannot_be_compiled(&self, root: &Value, whole: &Value) -> Outcome<()> {
        let Err(reason) = compile(whole) else { return Ok(()) };
        let mut search =
            Search { places: self, attempts: 0, begun: Instant::now(), seen: vec![false; self.targets.len()] };
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

/// How many there are; and what they refer to.
fn parts_of(schema: &Value, root: usize, needs: &mut Vec<usize>) -> usize {
    match schema {
        Value::Array(all) => all.iter().map(|one| parts_of(one, root, needs)).sum(),
        Value::Object(all) => {
            let part = |(key, value): (&String, &Value)| match key.as_str() {
                "enum" | "const" => 1,
                "$ref" if value.is_string() => {
                    needs.push(target_of(value).unwrap_or(root));
                    1
                }
                _ => 1 + parts_of(value, root, needs),
            };
            1 + all.iter().map(part).sum::<usize>()
        }
        _ => 1,
    }
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
    begun: Instant,
    seen: Vec<bool>,
}

impl<'a> Search<'a> {
    fn deepest(&mut self, schema: &'a Value, at: String, reason: String) -> (String, String) {
        for (part, place) in self.parts(schema, &at) {
            self.attempts += 1;
            if self.attempts > MOST_ATTEMPTS || self.begun.elapsed() > MOST_SEARCH {
                break;
            }
            // With a copy more it may be too large.
            let Ok(alone) = self.places.whole(part) else { continue };
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

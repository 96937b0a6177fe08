//! The keywords of a JSON schema, one by one: what each may say, and what of it goes on to the compiler.

use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome};
use crate::grammar::reason_of;

/// Of subschemas and of the parts of values, those that references lead to included.
const MOST_PARTS: usize = 20_000;
const MOST_BYTES: usize = 4 << 20; // of names and texts, as often as references lead to them
const MOST_CHOICES: usize = 10_000; // of an enum
const MOST_LENGTH: u64 = 100_000; // of texts, arrays and objects
const MOST_PATTERN_BYTES: usize = 10_000;
/// Of what comes word for word: a value, a name or a text. Each byte is a state of the matcher.
pub const MOST_LITERAL_BYTES: usize = 10_000;
/// From it on a number may not be what its digits say.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

const FORMATS: [&str; 10] =
    ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
pub const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

pub fn invalid<T>(at: &str, reason: impl AsRef<str>) -> Outcome<T> {
    Err(Failure::InvalidSchema(format!("{at}: {}", reason.as_ref())))
}

pub fn unsupported<T>(at: &str, reason: impl AsRef<str>) -> Outcome<T> {
    Err(Failure::UnsupportedSchema(format!("{at}: {}", reason.as_ref())))
}

/// What a schema may still grow by.
pub struct Room {
    parts: usize,
    bytes: usize,
}

impl Room {
    pub fn new() -> Self {
        Room { parts: MOST_PARTS, bytes: MOST_BYTES }
    }

    pub fn take(&mut self, parts: usize, bytes: usize, at: &str) -> Outcome<()> {
        let (Some(parts), Some(bytes)) = (self.parts.checked_sub(parts), self.bytes.checked_sub(bytes)) else {
            let limits = format!("more than {MOST_PARTS} parts, or {MOST_BYTES} bytes of texts");
            return unsupported(at, format!("with what references lead to, the schema has {limits}"));
        };
        *self = Room { parts, bytes };
        Ok(())
    }

    /// With everything in it.
    pub fn take_all(&mut self, value: &Value, at: &str) -> Outcome<()> {
        self.take(1, value.as_str().map_or(0, str::len), at)?;
        match value {
            Value::Array(all) => all.iter().try_for_each(|one| self.take_all(one, at)),
            Value::Object(all) => all.iter().try_for_each(|(name, one)| {
                self.take(0, name.len(), at)?;
                self.take_all(one, at)
            }),
            _ => Ok(()),
        }
    }
}

pub fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A key as a part of a JSON pointer.
pub fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

pub fn says_nothing(key: &str, value: &Value, beside: &Map<String, Value>) -> bool {
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
pub fn refuse_repeated_names(keywords: &Map<String, Value>, at: &str) -> Outcome<()> {
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

pub fn types(value: &Value, at: &str) -> Outcome<Value> {
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

pub fn choices(key: &str, value: &Value, room: &mut Room, at: &str) -> Outcome<Value> {
    let all = match (key, value) {
        ("const", one) => std::slice::from_ref(one),
        (_, Value::Array(all)) if !all.is_empty() => all.as_slice(),
        _ => return invalid(at, format!("enum is a list of values, not {}", shortened(value))),
    };
    if all.len() > MOST_CHOICES {
        return unsupported(at, format!("{} values are over the limit of {MOST_CHOICES}", all.len()));
    }
    room.take_all(value, at)?;
    for one in all {
        exact(one, at)?;
        literal(&one.to_string(), at)?;
    }
    Ok(value.clone())
}

pub fn literal(text: &str, at: &str) -> Outcome<()> {
    match text.len() {
        size if size > MOST_LITERAL_BYTES => {
            unsupported(at, format!("a value or name of {size} bytes is over the limit of {MOST_LITERAL_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// Whether the compiler, which computes with doubles, takes every number in the value for what it is.
pub fn exact(value: &Value, at: &str) -> Outcome<()> {
    match value {
        Value::Array(all) => all.iter().try_for_each(|one| exact(one, at)),
        Value::Object(all) => all.values().try_for_each(|one| exact(one, at)),
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() >= MOST_EXACT) => {
            unsupported(at, format!("{number} is beyond what is exact, 2^53"))
        }
        _ => Ok(()),
    }
}

pub fn names(value: &Value, room: &mut Room, at: &str) -> Outcome<Value> {
    let Some(names) = value.as_array().filter(|names| names.iter().all(Value::is_string)) else {
        return invalid(at, format!("required is a list of names, not {}", shortened(value)));
    };
    room.take_all(value, at)?;
    names.iter().filter_map(Value::as_str).try_for_each(|name| literal(name, at))?;
    Ok(value.clone())
}

/// No value: it allows everything.
pub fn length(key: &str, value: &Value, at: &str) -> Outcome<Option<Value>> {
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

pub fn bound(key: &str, value: &Value, at: &str) -> Outcome<Value> {
    let Some(number) = value.as_f64() else {
        return invalid(at, format!("{key} is a number, not {}", shortened(value)));
    };
    if key == "multipleOf" && number <= 0.0 {
        return invalid(at, format!("multipleOf is a number above 0, not {}", shortened(value)));
    }
    exact(value, at)?;
    Ok(value.clone())
}

/// The compiler takes a whole number that is excluded as a bound for a possible value where the other bound is less than
/// one away. The number next to it, as a bound that is possible, leaves out no more than what is between them.
pub fn move_excluded_bounds(read: &mut Map<String, Value>) {
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

pub fn next_above(number: f64) -> f64 {
    let nearest_to_zero = 1e-12;
    match number {
        number if number.abs() < nearest_to_zero => nearest_to_zero,
        number if number > 0.0 => f64::from_bits(number.to_bits() + 1),
        number => f64::from_bits(number.to_bits() - 1),
    }
}

pub fn pattern(value: &Value, at: &str) -> Outcome<Value> {
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

pub fn format(value: &Value, beside: &Map<String, Value>, at: &str) -> Outcome<Option<Value>> {
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
pub fn stricter(format: &str) -> &'static [&'static str] {
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

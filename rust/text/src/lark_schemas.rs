//! JSON schemas within Lark grammars: each %json {...} becomes the schema as `schema` prepares it. All else stays as it
//! is, line by line, so that what the compiler says of a line is right.

use serde_json::{Deserializer, Value};

use crate::failure::{Failure, Outcome};
use crate::schema;
use crate::schema_keywords::MOST_LITERAL_BYTES;

pub fn prepare(grammar: &str) -> Outcome<String> {
    let mut out = String::with_capacity(grammar.len());
    let mut rest = grammar;
    while !rest.is_empty() {
        let size = match rest.strip_prefix('%').map(keyword) {
            Some("json") => {
                let (prepared, size) = prepare_first(&rest["%json".len()..], 1 + grammar.len() - rest.len(), grammar)?;
                out.push_str("%json");
                out.push_str(&prepared);
                rest = &rest["%json".len() + size..];
                continue;
            }
            // They take JSON, too.
            Some(name @ ("llguidance" | "regex")) => {
                let begin = 1 + name.len();
                begin + first_value(&rest[begin..]).map_or(0, |(_, size)| size)
            }
            _ => size_of_first(rest),
        };
        if rest.starts_with('"') && size > MOST_LITERAL_BYTES {
            let line = 1 + out.matches('\n').count();
            let reason = format!("line {line}: a text of {size} bytes is over the limit of {MOST_LITERAL_BYTES}");
            return Err(Failure::new(reason));
        }
        out.push_str(&rest[..size]);
        rest = &rest[size..];
    }
    Ok(out)
}

fn keyword(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len())]
}

fn first_value(text: &str) -> Option<(Value, usize)> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// The schema that the text begins with, prepared, and the bytes that it takes.
fn prepare_first(text: &str, at: usize, grammar: &str) -> Outcome<(String, usize)> {
    let line = 1 + grammar[..at].matches('\n').count();
    let place = |reason| format!("line {line}: %json {reason}");
    let Some((schema, size)) = first_value(text) else {
        return Err(Failure::new(place("is not followed by JSON, or by JSON that is nested too deep".into())));
    };
    let prepared = schema::prepare(&schema).map_err(|failure| failure.map(place))?.to_string();
    // Lines count as before.
    let breaks = "\n".repeat(text[..size].matches('\n').count());
    Ok((format!(" {{{breaks}{}", &prepared[1..]), size))
}

/// The size of the text's first word, as the compiler's lexer sees it where a '%' could hide: in a text, an expression,
/// a comment or the name of a special token. At least one character.
fn size_of_first(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    match text.as_bytes()[0] {
        b'"' => quoted(text, b'"').unwrap_or(first),
        b'/' if text.starts_with("//") => text.find('\n').unwrap_or(text.len()),
        b'/' => quoted(text, b'/').unwrap_or(first),
        b'#' => text.find('\n').unwrap_or(text.len()),
        b'<' => special_token(text).unwrap_or(first),
        _ => first,
    }
}

/// Up to the quote that isn't escaped.
fn quoted(text: &str, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            byte if byte == quote => return Some(i + 1),
            b'\n' if quote == b'"' => return None,
            _ => {}
        }
        i += 1;
    }
    None
}

fn special_token(text: &str) -> Option<usize> {
    let end = text[1..].find(|c: char| c == '<' || c == '>' || c.is_whitespace())? + 1;
    (end > 1 && text.as_bytes()[end] == b'>').then_some(end + 1)
}

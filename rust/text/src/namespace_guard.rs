//! Keeps namespaces out of namespaces. They are the only values that change, so the only ones that could come to hold
//! themselves, and the engine would print or compare such a value without end.

use minijinja::machinery::{tokenize, Span, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ObjectRepr;
use minijinja::{Error, ErrorKind, State, Value};

pub const FILTER: &str = "without_namespaces";

/// The source with `FILTER` around whatever it assigns to an attribute: `{% set ns.a = b %}` becomes
/// `{% set ns.a = (b)|without_namespaces %}`.
pub fn guard_assignments(source: &str, syntax: &SyntaxConfig) -> Result<String, Error> {
    let tokens: Vec<(Token, Span)> = tokenize(source, false, syntax.clone()).collect::<Result<_, _>>()?;
    let mut guarded = String::with_capacity(source.len());
    let mut begin = 0;
    for block in tokens.split_inclusive(|(token, _)| matches!(token, Token::BlockEnd)) {
        let Some((from, to)) = assigned(block) else { continue };
        guarded += &source[begin..from];
        guarded += "(";
        guarded += &source[from..to];
        guarded += ")|";
        guarded += FILTER;
        guarded += " ";
        begin = to;
    }
    guarded += &source[begin..];
    Ok(guarded)
}

/// Where the value stands in a block that ends with an assignment to an attribute.
fn assigned(block: &[(Token, Span)]) -> Option<(usize, usize)> {
    let start = block.iter().rposition(|(token, _)| matches!(token, Token::BlockStart))?;
    let statement = &block[start + 1..];
    if !matches!(statement.first(), Some((Token::Ident("set"), _))) {
        return None;
    }
    let sign = statement.iter().position(|(token, _)| matches!(token, Token::Assign))?;
    let has_attribute = statement[..sign].iter().any(|(token, _)| matches!(token, Token::Dot));
    // A block without an end is no template: its reader says so.
    let Some((Token::BlockEnd, end)) = statement.last() else { return None };
    has_attribute.then_some((statement[sign].1.end_offset as usize, end.start_offset as usize))
}

/// The filter: gives the value back unless there is a namespace in it.
pub fn without_namespaces(state: &State, value: Value) -> Result<Value, Error> {
    let mut left = vec![value.clone()];
    while let Some(value) = left.pop() {
        let Some(object) = value.as_object() else { continue };
        if object.type_name().ends_with("::Namespace") {
            return Err(Error::new(ErrorKind::InvalidOperation, "a namespace can't hold a namespace"));
        }
        for item in value.try_iter().into_iter().flatten() {
            state.consume_fuel(1)?;
            if object.repr() == ObjectRepr::Map {
                left.extend(value.get_item(&item));
            }
            left.push(item);
        }
    }
    Ok(value)
}

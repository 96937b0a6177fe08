//! Makes a template pay for what its containers hold. The engine charges for text once it is written, so a list of
//! lists that share their items, of a few steps, could be printed or compared for hours. Here a container is paid for,
//! item by item, when it is made from others, so that none is larger than a render's steps and its input.

use minijinja::machinery::{tokenize, Span, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ObjectRepr, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State};

pub const BOUNDED: &str = "bounded";
pub const SLICED: &str = "sliced";
pub const UNREPEATED: &str = "unrepeated";
/// Of a field's width in str.format().
const MOST_DIGITS: usize = 4;
/// Brackets within brackets: as deep as the engine goes. What stands in them is looked at once for each around it.
const MOST_BRACKETS: usize = 150;
/// Slices of slices in one place.
const MOST_SLICES: usize = 8;
const APPEND_BOUNDED: &str = "|bounded";
const APPEND_UNREPEATED: &str = "|unrepeated";

/// Filters that may put a value into a container more than once.
const MAKERS: [&str; 6] = ["batch", "chain", "groupby", "map", "slice", "zip"];
/// Filters that compare what a value holds.
const COMPARERS: [&str; 6] = ["dictsort", "groupby", "max", "min", "sort", "unique"];
const BEFORE_OPERANDS: [&str; 8] = ["and", "do", "elif", "else", "if", "in", "not", "or"];
const CONSTANTS: [&str; 6] = ["true", "True", "false", "False", "none", "None"];

/// The filter: gives the value back once all that it holds is paid for.
pub fn bounded(state: &State, value: Value) -> Result<Value, Error> {
    pay(state, &value)?;
    Ok(value)
}

/// A step for an item and for 64 bytes of text.
pub fn pay(state: &State, value: &Value) -> Result<(), Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    let mut left = vec![value.clone()];
    while let Some(value) = left.pop() {
        let Some(object) = value.as_object() else { continue };
        for item in value.try_iter().into_iter().flatten() {
            pay_for_one(state, &item)?;
            if object.repr() == ObjectRepr::Map {
                let value = value.get_item(&item)?;
                pay_for_one(state, &value)?;
                left.push(value);
            }
            left.push(item);
        }
    }
    Ok(())
}

fn pay_for_one(state: &State, item: &Value) -> Result<(), Error> {
    // It could come to hold more after it was paid for.
    if item.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace")) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a list or dict can't hold a namespace"));
    }
    state.consume_fuel(1 + item.as_str().map_or(0, |text| text.len() as u64 / 64))
}

/// The filter behind slices: they are lazy, and those of slices of slices would be walked level by level.
pub fn sliced(state: &State, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

/// The filter around factors: repeating a list costs the engine nothing until it is printed.
pub fn unrepeated(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            Err(Error::new(ErrorKind::InvalidOperation, "a list can't be repeated by *"))
        }
        _ => Ok(value),
    }
}

/// Python's methods; those that may write an argument many times have it paid for as often.
pub fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let ("format", Some(text)) = (name, value.as_str()) {
        let is_wide = |field: &str| field.split(|c: char| !c.is_ascii_digit()).any(|width| width.len() > MOST_DIGITS);
        if text.split('{').skip(1).any(|field| is_wide(field.split('}').next().unwrap_or(field))) {
            return Err(Error::new(ErrorKind::InvalidOperation, "format: a width of more than 4 digits"));
        }
        let fields = text.matches('{').count() as u64;
        for argument in arguments {
            let before = steps_left(state);
            pay_for_one(state, argument)?;
            pay(state, argument)?;
            state.consume_fuel((before - steps_left(state)).saturating_mul(fields))?;
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

fn steps_left(state: &State) -> u64 {
    state.fuel_levels().map_or(0, |(_, left)| left)
}

/// The functions that make containers of their arguments.
pub fn dict(state: &State, value: Option<Value>, items: Kwargs) -> Result<Value, Error> {
    bounded(state, minijinja::functions::dict(value, items)?)
}

pub fn namespace(state: &State, defaults: Option<ValueOrKwargs>) -> Result<Value, Error> {
    bounded(state, minijinja::functions::namespace(defaults)?)
}

/// The source with filters where containers are made: around lists, dicts and tuples, after `MAKERS`, before `COMPARERS`,
/// behind what is added or compared, and on both sides of `*`.
pub fn guard_containers(source: &str, syntax: &SyntaxConfig) -> Result<String, Error> {
    let tokens: Vec<(Token, Span)> = tokenize(source, false, syntax.clone()).collect::<Result<_, _>>()?;
    let mut guard = Guard { partners: partners(&tokens)?, tokens, insertions: Vec::new() };
    guard.walk()?;
    guard.insertions.sort_by_key(|&(offset, order, _)| (offset, order));
    let mut guarded = String::with_capacity(source.len() * 2);
    let mut begin = 0;
    for (offset, _, text) in guard.insertions {
        guarded += &source[begin..offset];
        guarded += text;
        begin = offset;
    }
    guarded += &source[begin..];
    Ok(guarded)
}

/// For an opening bracket the index of its end, where it has one.
fn partners(tokens: &[(Token, Span)]) -> Result<Vec<Option<usize>>, Error> {
    let mut partners = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (i, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => open.push(i),
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                if let Some(begin) = open.pop() {
                    partners[begin] = Some(i);
                }
            }
            Token::BlockEnd | Token::VariableEnd => open.clear(),
            _ => {}
        }
        if open.len() > MOST_BRACKETS {
            let reason = format!("brackets are within one another more than {MOST_BRACKETS} deep");
            return Err(Error::new(ErrorKind::SyntaxError, reason));
        }
    }
    Ok(partners)
}

/// What comes first where several texts are inserted at one place.
const CLOSE: u8 = 0;
const APPEND: u8 = 1;
const CLOSE_SET: u8 = 2;
const OPEN: u8 = 3;

struct Guard<'a> {
    tokens: Vec<(Token<'a>, Span)>,
    partners: Vec<Option<usize>>,
    insertions: Vec<(usize, u8, &'static str)>,
}

impl Guard<'_> {
    fn walk(&mut self) -> Result<(), Error> {
        let mut i = 0;
        while i < self.tokens.len() {
            match &self.tokens[i].0 {
                Token::BlockStart => i = self.skip_targets(i),
                Token::BracketOpen if self.is_slice(i) => self.guard_slice(i)?,
                Token::BracketOpen | Token::BraceOpen | Token::ParenOpen => self.guard_literal(i),
                Token::Pipe => {
                    self.guard_comparer(i);
                    self.guard_maker(i);
                }
                Token::Mul if self.ends_operand(i, 1) => self.guard_factors(i),
                Token::Plus | Token::Eq | Token::Ne | Token::Lt | Token::Lte | Token::Gt | Token::Gte => {
                    self.append_to_operand(i + 1, APPEND_BOUNDED);
                }
                Token::Ident("in") if self.is_operator_in(i) => self.append_to_operand(i + 1, APPEND_BOUNDED),
                _ => {}
            }
            i += 1;
        }
        Ok(())
    }

    fn is_slice(&self, open: usize) -> bool {
        let Some(close) = self.partners[open] else { return false };
        let mut i = open + 1;
        while i < close && !matches!(self.token(i), Some(Token::Colon)) {
            i = self.partners[i].unwrap_or(i) + 1;
        }
        i < close
    }

    fn guard_slice(&mut self, open: usize) -> Result<(), Error> {
        let mut close = self.partners[open].unwrap_or(open);
        let mut count = 1;
        while matches!(self.token(close + 1), Some(Token::BracketOpen)) && self.is_slice(close + 1) {
            close = self.partners[close + 1].unwrap_or(close + 1);
            count += 1;
            if count > MOST_SLICES {
                return Err(Error::new(ErrorKind::SyntaxError, "more than 8 slices of slices"));
            }
        }
        let goes_on = matches!(self.token(close + 1), Some(Token::Dot | Token::BracketOpen | Token::ParenOpen));
        if count == 1 && !goes_on {
            self.insertions.push((self.end(close), APPEND, "|sliced"));
        }
        Ok(())
    }

    fn token(&self, i: usize) -> Option<&Token<'_>> {
        self.tokens.get(i).map(|(token, _)| token)
    }
    fn token_before(&self, i: usize, distance: usize) -> Option<&Token<'_>> {
        i.checked_sub(distance).and_then(|i| self.token(i))
    }
    fn begin(&self, i: usize) -> usize {
        self.tokens[i].1.start_offset as usize
    }
    fn end(&self, i: usize) -> usize {
        self.tokens[i].1.end_offset as usize
    }

    /// The last token of what a `for` or `set` assigns to; of other statements that of their name.
    fn skip_targets(&mut self, start: usize) -> usize {
        let Some(Token::Ident(name @ ("for" | "set"))) = self.token(start + 1) else { return start };
        let is_set = *name == "set";
        let mut i = start + 2;
        while let Some(Token::Ident(_) | Token::Dot | Token::Comma | Token::ParenOpen | Token::ParenClose) =
            self.token(i)
        {
            if !is_set && matches!(self.token(i), Some(Token::Ident("in"))) {
                return i;
            }
            i += 1;
        }
        if is_set && matches!(self.token(i), Some(Token::Assign)) {
            self.guard_bare_tuple(i);
            return i;
        }
        i - 1
    }

    fn guard_bare_tuple(&mut self, sign: usize) {
        let mut i = sign + 1;
        let mut is_tuple = false;
        while !matches!(self.token(i), None | Some(Token::BlockEnd)) {
            is_tuple |= matches!(self.token(i), Some(Token::Comma));
            i = self.partners[i].unwrap_or(i) + 1;
        }
        if is_tuple && i < self.tokens.len() {
            let (from, to) = (self.end(sign), self.begin(i));
            self.insertions.push((from, OPEN, "("));
            self.insertions.push((to, CLOSE_SET, ")|bounded "));
        }
    }

    /// Whether an operand ends `distance` tokens before `i`.
    fn ends_operand(&self, i: usize, distance: usize) -> bool {
        match self.token_before(i, distance) {
            Some(Token::Ident(name)) => {
                !(BEFORE_OPERANDS.contains(name) || *name == "is")
                    || matches!(self.token_before(i, distance + 1), Some(Token::Dot))
            }
            Some(token) => {
                is_literal(token) || matches!(token, Token::BracketClose | Token::ParenClose | Token::BraceClose)
            }
            None => false,
        }
    }

    fn is_operator_in(&self, i: usize) -> bool {
        let is_not = matches!(self.token_before(i, 1), Some(Token::Ident("not"))) && self.ends_operand(i, 2);
        self.ends_operand(i, 1) || is_not
    }

    /// Whether the word before `i` is a test's name, whose argument may stand behind it without parentheses.
    fn follows_test(&self, i: usize) -> bool {
        let distance = if matches!(self.token_before(i, 2), Some(Token::Ident("not"))) { 3 } else { 2 };
        matches!(self.token_before(i, 1), Some(Token::Ident(_)))
            && matches!(self.token_before(i, distance), Some(Token::Ident("is")))
    }

    fn guard_literal(&mut self, i: usize) {
        let Some(close) = self.partners[i] else { return };
        let is_paren = matches!(self.token(i), Some(Token::ParenOpen));
        let is_brace = matches!(self.token(i), Some(Token::BraceOpen));
        if !is_brace && self.ends_operand(i, 1) && (is_paren || !self.follows_test(i)) {
            return; // a subscript or arguments
        }
        if is_paren && (self.follows_test(i) || matches!(self.token(close + 1), Some(Token::Assign))) {
            return;
        }
        if (is_paren && !self.has_comma(i, close)) || self.is_constant(i, close) {
            return;
        }
        let (from, to) = (self.begin(i), self.end(close));
        self.insertions.push((from, OPEN, "("));
        self.insertions.push((to, CLOSE, "|bounded)"));
    }

    fn has_comma(&self, open: usize, close: usize) -> bool {
        let mut i = open + 1;
        while i < close {
            if matches!(self.token(i), Some(Token::Comma)) {
                return true;
            }
            i = self.partners[i].unwrap_or(i) + 1;
        }
        false
    }

    /// A literal of literals is no larger than its source.
    fn is_constant(&self, open: usize, close: usize) -> bool {
        self.tokens[open..=close].iter().all(|(token, _)| match token {
            Token::Ident(name) => CONSTANTS.contains(name),
            Token::Comma | Token::Colon | Token::Minus => true,
            Token::BracketOpen | Token::BracketClose | Token::BraceOpen | Token::BraceClose => true,
            Token::ParenOpen | Token::ParenClose => true,
            token => is_literal(token),
        })
    }

    fn guard_maker(&mut self, pipe: usize) {
        if matches!(self.token(pipe + 1), Some(Token::Ident(name)) if MAKERS.contains(name)) {
            let last = self.end_of_arguments(pipe + 1);
            self.insertions.push((self.end(last), APPEND, APPEND_BOUNDED));
        }
    }

    fn guard_comparer(&mut self, pipe: usize) {
        if matches!(self.token(pipe + 1), Some(Token::Ident(name)) if COMPARERS.contains(name)) {
            self.insertions.push((self.begin(pipe), APPEND, APPEND_BOUNDED));
        }
    }

    /// `name`, or the end of the arguments behind it.
    fn end_of_arguments(&self, name: usize) -> usize {
        match self.token(name + 1) {
            Some(Token::ParenOpen) => self.partners[name + 1].unwrap_or(name),
            _ => name,
        }
    }

    fn guard_factors(&mut self, sign: usize) {
        if !self.token_before(sign, 1).is_some_and(is_literal) || matches!(self.token_before(sign, 2), Some(Token::Dot))
        {
            self.insertions.push((self.end(sign - 1), APPEND, APPEND_UNREPEATED));
        }
        self.append_to_operand(sign + 1, APPEND_UNREPEATED);
    }

    /// Behind an operand with its attributes, subscripts, calls and filters, unless it is a literal.
    fn append_to_operand(&mut self, begin: usize, text: &'static str) {
        let mut i = begin;
        while matches!(self.token(i), Some(Token::Minus)) {
            i += 1;
        }
        let is_plain = match self.token(i) {
            Some(Token::Ident(name)) => CONSTANTS.contains(name),
            // A list or dict in place was paid for; it may still be a factor.
            Some(Token::BracketOpen | Token::BraceOpen) => text == APPEND_BOUNDED,
            Some(Token::ParenOpen) => false,
            Some(token) if is_literal(token) => true,
            _ => return,
        };
        i = self.partners[i].unwrap_or(i);
        while matches!(self.token(i + 1), Some(Token::Str(_) | Token::String(_))) {
            i += 1;
        }
        let primary = i;
        loop {
            match self.token(i + 1) {
                Some(Token::Dot) if self.token(i + 2).is_some() => i += 2,
                Some(Token::BracketOpen | Token::ParenOpen) => match self.partners[i + 1] {
                    Some(close) => i = close,
                    None => return,
                },
                Some(Token::Pipe) if self.token(i + 2).is_some() => i = self.end_of_arguments(i + 2),
                _ => break,
            }
        }
        if !(is_plain && i == primary) {
            self.insertions.push((self.end(i), APPEND, text));
        }
    }
}

fn is_literal(token: &Token) -> bool {
    matches!(token, Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_))
}

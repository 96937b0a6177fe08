//! A chat template: Jinja that comes with a model, so foreign code. It gets no loader, a budget of steps, a depth and a
//! stack of its own, and what transformers gives it: trim_blocks, lstrip_blocks, tojson, raise_exception, strftime_now,
//! Python's methods.

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use minijinja::machinery::{tokenize, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{escape_formatter, Environment, Error, ErrorKind, State};
use regex::Regex;
use serde_json::{Map, Value as Json};

use crate::chat::Chat;
use crate::container_guard;
use crate::deep_stack;
use crate::failure::{Failure, Outcome};
use crate::namespace_guard;
use crate::python_json::tojson;
use crate::stand_ins::StandIns;

/// A step is an instruction or 64 bytes of text that the template makes, so a prompt has less than 12.8 MB.
const FUEL: u64 = 200_000;
const DEPTH: usize = 100;
const MOST_SOURCE_BYTES: usize = 128 << 10;
const NAME: &str = "chat template";
/// What the caller may not set.
const OURS: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

type Comparison = fn(&Value, &Value) -> bool;
/// Tests that compare, by their names.
const COMPARISONS: [(&[&str], Comparison); 6] = [
    (&["eq", "equalto", "=="], |a, b| a == b),
    (&["ne", "!="], |a, b| a != b),
    (&["lt", "lessthan", "<"], |a, b| a < b),
    (&["le", "<="], |a, b| a <= b),
    (&["gt", "greaterthan", ">"], |a, b| a > b),
    (&["ge", ">="], |a, b| a >= b),
];

pub struct Template {
    environment: Environment<'static>,
    /// What it can write: its text and strings, and the special tokens that it is given.
    literals: Vec<String>,
    identifiers: HashSet<String>,
    special_tokens: Map<String, Json>,
}

impl Template {
    /// `special_tokens` is a JSON object of strings.
    pub fn new(source: &str, special_tokens: &str) -> Outcome<Self> {
        if source.len() > MOST_SOURCE_BYTES {
            let size = source.len();
            return Err(Failure::new(format!("{NAME}: {size} bytes are over the limit of {MOST_SOURCE_BYTES}")));
        }
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(explain)?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax.clone());
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(container_guard::method);
        environment.add_filter("tojson", |state: &State, value: Value, arguments: Kwargs| {
            tojson(state, value, arguments, &|_| false)
        });
        // Python can't iterate over None.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_filter(namespace_guard::FILTER, namespace_guard::without_namespaces);
        environment.add_filter(container_guard::BOUNDED, container_guard::bounded);
        environment.add_filter(container_guard::SLICED, container_guard::sliced);
        for (names, holds) in COMPARISONS {
            for name in names.iter().copied() {
                environment.add_test(name, move |state: &State, a: Value, b: Value| {
                    container_guard::pay(state, &b).map(|()| holds(&a, &b))
                });
            }
        }
        environment.add_test("in", |state: &State, item: Value, container: Value| {
            container_guard::pay(state, &container)?;
            minijinja::tests::is_in(state, &item, &container)
        });
        environment.add_filter(container_guard::UNREPEATED, container_guard::unrepeated);
        environment.add_function("dict", container_guard::dict);
        environment.add_function("namespace", container_guard::namespace);
        // It writes all there is, indented, and is charged for nothing.
        environment.remove_global("debug");
        environment.set_formatter(|out, state, value| {
            container_guard::pay(state, value)?;
            escape_formatter(out, state, value)
        });
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let special_tokens: Map<String, Json> =
            serde_json::from_str(special_tokens).map_err(Failure::at("special tokens"))?;
        let (mut literals, identifiers) = deep_stack::run("chat template", || {
            let source = without_generation_tags(source);
            let source = container_guard::guard_containers(&source, &syntax).map_err(explain)?;
            let source = namespace_guard::guard_assignments(&source, &syntax).map_err(explain)?;
            let words = words(&source, &syntax).map_err(explain)?;
            environment.add_template_owned(NAME, source).map_err(explain)?;
            Ok(words)
        })?;
        literals.extend(special_tokens.values().filter_map(|text| text.as_str().map(String::from)));
        Ok(Template { environment, literals, identifiers, special_tokens })
    }

    pub fn literals(&self) -> &[String] {
        &self.literals
    }

    /// Whether it reads a variable, an attribute or a key of that name.
    pub fn mentions(&self, name: &str) -> bool {
        self.identifiers.contains(name) || self.literals.iter().any(|literal| literal == name)
    }

    /// On a deep stack.
    pub fn render(&self, chat: &Chat) -> Outcome<String> {
        self.render_in(&self.environment, chat)
    }

    /// The same for a chat that holds `stand_ins`.
    pub fn render_guarded(&self, chat: &Chat, stand_ins: &Arc<StandIns>) -> Outcome<String> {
        let stand_ins = stand_ins.clone();
        let mut environment = self.environment.clone();
        environment.add_filter("tojson", move |state: &State, value: Value, arguments: Kwargs| {
            tojson(state, value, arguments, &|c| stand_ins.contain(c))
        });
        self.render_in(&environment, chat)
    }

    fn render_in(&self, environment: &Environment, chat: &Chat) -> Outcome<String> {
        let mut context = chat.arguments.clone();
        let is_ours = |name: &&String| OURS.contains(&name.as_str()) || self.special_tokens.contains_key(name.as_str());
        if let Some(name) = context.keys().find(is_ours) {
            return Err(Failure::new(format!("{name}: is not for the request to set")));
        }
        context.extend(self.special_tokens.clone());
        context.insert("messages".into(), chat.messages.clone());
        context.insert("tools".into(), chat.tools.clone());
        context.insert("documents".into(), Json::Null);
        context.insert("add_generation_prompt".into(), chat.add_generation_prompt.into());
        let template = environment.get_template(NAME).map_err(explain)?;
        template.render(Value::from(Serde(context))).map_err(explain)
    }
}

/// The texts in a source, what stands around its tags and strings, and its identifiers.
fn words(source: &str, syntax: &SyntaxConfig) -> Result<(Vec<String>, HashSet<String>), Error> {
    let (mut literals, mut identifiers) = (Vec::new(), HashSet::new());
    for token in tokenize(source, false, syntax.clone()) {
        match token?.0 {
            Token::TemplateData(text) | Token::Str(text) => literals.push(text.to_string()),
            Token::String(text) => literals.push(text.into_string()),
            Token::Ident(name) => drop(identifiers.insert(name.to_string())),
            _ => {}
        }
    }
    Ok((literals, identifiers))
}

/// Training marks the assistant's turns by {% generation %}; for us it is a block that is always there.
fn without_generation_tags(source: &str) -> String {
    let tag = Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})").expect("a valid expression");
    let block = |tag: &regex::Captures| {
        let name = if tag.get(2).is_some() { "endif" } else { "if true" };
        format!("{}{name}{}", &tag[1], &tag[3])
    };
    tag.replace_all(source, block).into_owned()
}

/// What a template said by raise_exception.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}
impl std::error::Error for Raised {}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

fn explain(error: Error) -> Failure {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Failure::new(format!("{NAME}: {message}"));
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Failure::new(format!("{NAME}: takes more than {FUEL} steps")),
        _ => Failure::new(format!("{NAME}: {error}")),
    }
}

/// The local time by C's strftime, as Python does it.
fn strftime_now(format: String) -> Result<String, Error> {
    let cannot = |reason: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {reason}"));
    let format = CString::new(format).map_err(|_| cannot("the format holds a NUL"))?;
    let mut text = vec![0u8; 512];
    // SAFETY: every pointer is to something of ours that outlives the call, `text` with its size.
    let size = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(cannot("no local time"));
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &parts)
    };
    if size == 0 && !format.is_empty() {
        return Err(cannot("the result is empty or over 511 bytes"));
    }
    text.truncate(size);
    String::from_utf8(text).map_err(|_| cannot("the result is not UTF-8"))
}

//! From a conversation to ids, such that a special token comes from the template only: the same text in a message, a
//! tool or an argument stays text.
//!
//! Where nothing of the input could be a part of a special token the rendered text is encoded as it is. Otherwise the
//! template is rendered again over *guarded* input, in which a character that occurs nowhere else breaks whatever could
//! be taken for a special token; what is still one is the template's own. These get a *marker* before them, the guards
//! are dropped, and the tokenizer looks for marked special tokens alone. So the text is cut and merged as always, and
//! the ids differ from the plain encoding just where the input holds special tokens.
//!
//! Guards can get in the way of a template that looks into the input, for `</think>` say. See `guarded_text`.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value as Json};

use crate::added_tokens::AddedTokens;
use crate::deep_stack;
use crate::failure::{Failure, Outcome};
use crate::template::Template;
use crate::tokenizer::Tokenizer;

pub struct Chat {
    pub messages: Json,
    pub tools: Json,
    pub arguments: Map<String, Json>,
    pub add_generation_prompt: bool,
}

pub struct Prompt {
    pub ids: Vec<u32>,
    pub text: String,
}

impl Chat {
    pub fn parse(
        messages: &str,
        tools: Option<&str>,
        arguments: Option<&str>,
        add_generation_prompt: bool,
    ) -> Outcome<Self> {
        let messages: Json = serde_json::from_str(messages).map_err(Failure::at("messages"))?;
        if !messages.is_array() {
            return Err(Failure::new("messages: is not an array"));
        }
        Ok(Chat {
            messages,
            tools: tools.map_or(Ok(Json::Null), serde_json::from_str).map_err(Failure::at("tools"))?,
            arguments: arguments.map_or(Ok(Map::new()), serde_json::from_str).map_err(Failure::at("arguments"))?,
            add_generation_prompt,
        })
    }

    fn map_texts(&self, change: &impl Fn(&str) -> String) -> Self {
        Chat {
            messages: map_texts(&self.messages, change),
            tools: map_texts(&self.tools, change),
            arguments: self.arguments.iter().map(|(name, value)| (name.clone(), map_texts(value, change))).collect(),
            add_generation_prompt: self.add_generation_prompt,
        }
    }

    fn visit_texts(&self, visit: &mut impl FnMut(&str)) {
        visit_texts(&self.messages, visit);
        visit_texts(&self.tools, visit);
        self.arguments.values().for_each(|value| visit_texts(value, visit));
    }
}

/// Keys are texts, too: tools name their parameters.
fn map_texts(json: &Json, change: &impl Fn(&str) -> String) -> Json {
    match json {
        Json::String(text) => Json::String(change(text)),
        Json::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Json::Object(items) => items.iter().map(|(key, item)| (change(key), map_texts(item, change))).collect(),
        other => other.clone(),
    }
}

fn visit_texts(json: &Json, visit: &mut impl FnMut(&str)) {
    match json {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter().for_each(|item| visit_texts(item, visit)),
        Json::Object(items) => items.iter().for_each(|(key, item)| {
            visit(key);
            visit_texts(item, visit);
        }),
        _ => {}
    }
}

pub fn encode(template: &Template, tokenizer: &Tokenizer, chat: &Chat) -> Outcome<Prompt> {
    deep_stack::run(|| encode_here(template, tokenizer, chat))
}

fn encode_here(template: &Template, tokenizer: &Tokenizer, chat: &Chat) -> Outcome<Prompt> {
    let text = template.render(chat)?;
    let added = tokenizer.added();
    let mut is_touched = false;
    chat.visit_texts(&mut |text| is_touched |= added.touches(text));
    if !is_touched {
        let ids = tokenizer.encode(&text, None, false, true)?.get_ids().to_vec();
        return Ok(Prompt { ids, text });
    }

    let [marker, guard] = unused_characters(template, chat, &text)?;
    let guarded = guarded_text(template, added, chat, &text, guard)?;
    let specials = added.find_special(&guarded, guard);
    let ids = tokenizer.encode_marked(&mark(&guarded, &specials, guard, marker), marker)?;
    Ok(Prompt { ids, text: without(&guarded, guard) })
}

/// Renders with guards at every end of a special token that the input could give, which is safe whatever the template
/// does. If that changes the text, the template has looked at what was broken. Then guards within whole special tokens
/// only are tried; the template may join pieces between them, but as long as it yields the same special tokens it has
/// not. Else the safe text it is.
fn guarded_text(template: &Template, added: &AddedTokens, chat: &Chat, plain: &str, guard: char) -> Outcome<String> {
    let render = |guarded: Chat| template.render(&guarded).map_err(|failure| clean(failure, guard));
    let safe = render(chat.map_texts(&|text| added.guard_ends(text, guard)))?;
    if without(&safe, guard) == plain {
        return Ok(safe);
    }
    let whole = render(chat.map_texts(&|text| added.guard_whole(text, guard)))?;
    let tokens = |text: &str| -> Vec<String> {
        let found = added.find_special(text, guard);
        found.into_iter().map(|range| text[range].to_string()).collect()
    };
    Ok(if tokens(&whole) == tokens(&safe) { whole } else { safe })
}

fn mark(guarded: &str, specials: &[Range<usize>], guard: char, marker: char) -> String {
    let mut marked = String::with_capacity(guarded.len() + 4 * specials.len());
    let mut begin = 0;
    for special in specials {
        marked.push_str(&without(&guarded[begin..special.start], guard));
        marked.push(marker);
        begin = special.start;
    }
    marked.push_str(&without(&guarded[begin..], guard));
    marked
}

fn without(text: &str, guard: char) -> String {
    text.replace(guard, "")
}

fn clean(failure: Failure, guard: char) -> Failure {
    failure.map(|reason| without(&reason, guard))
}

/// Characters that neither template nor input hold, noncharacters first: nobody means anything by them.
fn unused_characters(template: &Template, chat: &Chat, text: &str) -> Outcome<[char; 2]> {
    let noncharacters = '\u{FDD0}'..='\u{FDEF}';
    let private = '\u{F0000}'..='\u{FFFFD}';
    let is_candidate = |c: &char| noncharacters.contains(c) || private.contains(c);
    let mut used: HashSet<char> = template.source().chars().chain(text.chars()).filter(is_candidate).collect();
    chat.visit_texts(&mut |text| used.extend(text.chars().filter(is_candidate)));
    let mut unused = noncharacters.clone().chain(private.clone()).filter(|c| !used.contains(c));
    match (unused.next(), unused.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(Failure::new("messages: hold every private character of Unicode")),
    }
}

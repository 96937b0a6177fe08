//! From a conversation to ids, such that a reserved token comes from the template only: the same text in a message, a
//! tool or an argument stays text.
//!
//! Where something of the input could be a part of such a token the template is rendered again over *guarded* input, in
//! which stand-ins for some characters break whatever could be taken for one; what is still one is the template's own.
//! The tokenizer is told where those stand and takes no other, whatever a normalizer makes of the rest. So the text is
//! cut and merged as always, and the ids differ from the plain encoding just where the input holds reserved tokens.
//!
//! Guards can get in the way of a template that looks into the input, for `</think>` say. See `write`.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::added_tokens::Match;
use crate::deep_stack;
use crate::failure::{Failure, Outcome};
use crate::hermes;
use crate::reserved_tokens::ReservedTokens;
use crate::sampled::Sampled;
use crate::stand_ins::StandIns;
use crate::template::Template;
use crate::tokenizer::Tokenizer;

#[derive(Clone)]
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

pub fn render(template: &Template, chat: Chat) -> Outcome<String> {
    deep_stack::run("chat template", || template.render(&hermes::adapt(template, chat)?))
}

pub fn encode(template: &Template, tokenizer: &Tokenizer, chat: Chat, sampled: &[Sampled]) -> Outcome<Prompt> {
    let reserved = ReservedTokens::new(tokenizer.added(), template.literals());
    let Written { text, own } =
        deep_stack::run("chat template", || write(template, &reserved, &hermes::adapt(template, chat)?))?;
    let ids = tokenizer.encode_reserved(&text, reserved.is_reserved(), &own, sampled)?;
    Ok(Prompt { ids, text })
}

/// A rendered text and where the template's own reserved tokens stand in it.
struct Written {
    text: String,
    own: Vec<Match>,
}

impl Written {
    fn has_tokens_of(&self, other: &Written) -> bool {
        let tokens = |written: &'_ Written| written.own.iter().map(|own| own.token).collect::<Vec<_>>();
        tokens(self) == tokens(other)
    }
}

/// Renders with guards at every end of a reserved token that the input could give, which is safe whatever the template
/// does. If that changes the text, the template has looked at what was broken. Then the text without guards will do if
/// it has the same reserved tokens: none of the input's are left in it. (Or one stands where the template would have
/// written it, had the input not.) If it has not, guards within whole reserved tokens only are tried; the template may
/// join pieces between them, but as long as it writes the same reserved tokens it has not. Else the safe text it is. On
/// a deep stack.
fn write(template: &Template, reserved: &ReservedTokens, chat: &Chat) -> Outcome<Written> {
    let plain = template.render(chat)?;
    let mut is_touched = false;
    chat.visit_texts(&mut |text| is_touched |= reserved.touches(text));
    if !is_touched {
        return Ok(Written { own: reserved.find(&plain), text: plain });
    }
    let stand_ins = Arc::new(StandIns::new(reserved.ends(), &used_characters(template, reserved, chat, &plain))?);
    let render = |guarded: Chat| -> Outcome<Written> {
        let rendered = template.render_guarded(&guarded, &stand_ins);
        let text = rendered.map_err(|failure| failure.map(|reason| stand_ins.undo(&reason)))?;
        let mut own = reserved.find(&text);
        Ok(Written { text: stand_ins.undo_around(&text, &mut own), own })
    };
    let safe = render(chat.map_texts(&|text| reserved.break_ends(text, |c| stand_ins.of(c))))?;
    if safe.text == plain {
        return Ok(safe);
    }
    let as_is = Written { own: reserved.find(&plain), text: plain };
    if as_is.has_tokens_of(&safe) {
        return Ok(as_is);
    }
    let whole = render(chat.map_texts(&|text| reserved.break_whole(text, |c| stand_ins.of(c))))?;
    Ok(if whole.has_tokens_of(&safe) { whole } else { safe })
}

/// Those of them that could be stand-ins.
fn used_characters(template: &Template, reserved: &ReservedTokens, chat: &Chat, text: &str) -> HashSet<char> {
    let candidates = |text: &str| text.chars().filter(StandIns::is_candidate).collect::<Vec<_>>();
    let mut used: HashSet<char> = candidates(text).into_iter().collect();
    template.literals().iter().for_each(|literal| used.extend(candidates(literal)));
    reserved.texts().for_each(|token| used.extend(candidates(token)));
    chat.visit_texts(&mut |text| used.extend(candidates(text)));
    used
}

//! Tools in the Hermes form, for templates that know none: a section of the system message describes them, a call is a
//! `<tool_call>` block in what the assistant says, and a result a `<tool_response>` block in a message of the user.
//! Source: github.com/NousResearch/Hermes-Function-Calling, and Qwen's templates, which have the same form.

use serde_json::{json, Value as Json};

use crate::chat::Chat;
use crate::failure::Outcome;
use crate::python_json;
use crate::template::Template;

/// The chat as `template` can render it: as it is, unless it is about tools and the template is not. On a deep stack.
pub fn adapt(template: &Template, chat: Chat) -> Outcome<Chat> {
    let tools = chat.tools.as_array().cloned().unwrap_or_default();
    if template.mentions("tools") {
        return Ok(chat);
    }
    let wants_section = !tools.is_empty();
    let is_about_calls = || messages(&chat).any(|message| is_call(message) || is_result(message));
    if !wants_section && (template.mentions("tool_calls") || !is_about_calls()) {
        return Ok(chat);
    }
    let plain = Chat { messages: without_tool_messages(&chat).into(), tools: Json::Null, ..chat };
    if !wants_section {
        return Ok(plain);
    }
    let section = section(&tools);
    // Some templates refuse a system message, some drop it.
    let in_system = Chat { messages: with_system_section(&plain, &section).into(), ..plain.clone() };
    match template.render(&in_system) {
        Ok(text) if text.contains(&section) => Ok(in_system),
        _ => Ok(Chat { messages: with_user_section(&plain, &section).into(), ..plain }),
    }
}

fn messages(chat: &Chat) -> impl Iterator<Item = &Json> {
    chat.messages.as_array().into_iter().flatten()
}

fn role(message: &Json) -> &str {
    message["role"].as_str().unwrap_or_default()
}

fn is_call(message: &Json) -> bool {
    message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
}

fn is_result(message: &Json) -> bool {
    role(message) == "tool"
}

fn section(tools: &[Json]) -> String {
    let tools: Vec<_> = tools.iter().map(python_json::write).collect();
    let tools = tools.join("\n");
    format!(
        "# Tools\n\nYou can call functions to help the user. Their signatures, as JSON, one in a line:\n<tools>\n{tools}\n\
         </tools>\n\nTo call one, answer with its name and arguments as a JSON object within tool_call tags, a block for \
         each call:\n<tool_call>\n{{\"name\": <name>, \"arguments\": <arguments>}}\n</tool_call>"
    )
}

/// Results that follow one another answer one message, so they become one.
fn without_tool_messages(chat: &Chat) -> Vec<Json> {
    let mut plain: Vec<Json> = Vec::new();
    let mut follows_result = false;
    for message in messages(chat) {
        let is_result = is_result(message);
        if is_result && follows_result {
            let last = plain.last_mut().expect("the result before");
            last["content"] = format!("{}\n{}", text(&last["content"]), response(message)).into();
        } else if is_result {
            plain.push(json!({"role": "user", "content": response(message)}));
        } else if is_call(message) {
            plain.push(said(message));
        } else {
            plain.push(message.clone());
        }
        follows_result = is_result;
    }
    plain
}

fn response(message: &Json) -> String {
    format!("<tool_response>\n{}\n</tool_response>", text(&message["content"]))
}

/// The message with its calls as text.
fn said(message: &Json) -> Json {
    let content = text(&message["content"]);
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(call);
    let parts: Vec<_> = Some(content).filter(|content| !content.is_empty()).into_iter().chain(calls).collect();
    let mut said = message.as_object().cloned().unwrap_or_default();
    said.remove("tool_calls");
    said.insert("content".into(), parts.join("\n").into());
    said.into()
}

fn call(call: &Json) -> String {
    let function = call.get("function").unwrap_or(call);
    let arguments = match &function["arguments"] {
        Json::Null => "{}".to_string(),
        Json::String(text) => text.clone(),
        value => python_json::write(value),
    };
    let name = python_json::write(&function["name"]);
    format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>")
}

/// Content is a text or a list of parts.
fn text(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn with_system_section(chat: &Chat, section: &str) -> Vec<Json> {
    let mut messages: Vec<Json> = messages(chat).cloned().collect();
    match messages.first_mut() {
        Some(first) if role(first) == "system" => {
            let own = text(&first["content"]);
            let separator = if own.is_empty() { "" } else { "\n\n" };
            first["content"] = format!("{own}{separator}{section}").into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": section})),
    }
    messages
}

fn with_user_section(chat: &Chat, section: &str) -> Vec<Json> {
    let mut messages: Vec<Json> = messages(chat).cloned().collect();
    let Some(first) = messages.iter_mut().find(|message| role(message) == "user") else {
        messages.insert(0, json!({"role": "user", "content": section}));
        return messages;
    };
    match &mut first["content"] {
        Json::Array(parts) => parts.insert(0, json!({"type": "text", "text": format!("{section}\n\n")})),
        content => *content = format!("{section}\n\n{}", text(content)).into(),
    }
    messages
}

//! A tokenizer's model without the tokens that a text must not become. Added tokens are cut out of a text before the
//! model sees it, as the caller wants; but many a model has them among its own, and would make them of what is left.

use std::collections::HashSet;

use serde_json::Value as Json;
use tokenizers::{Model, ModelWrapper};

use crate::added_tokens::AddedTokens;
use crate::failure::{Failure, Outcome};

/// None where `model` is so already. The unknown token stays, for what is unknown: only Unigram can tell it from its
/// own text. So does a letter, where bytes can't take its place.
pub fn without_marks(model: &ModelWrapper, added: &AddedTokens) -> Outcome<Option<ModelWrapper>> {
    let marks: HashSet<&str> = added.marks().filter(|mark| !is_needed(model, mark) && makes(model, mark)).collect();
    if marks.is_empty() {
        return Ok(None);
    }
    let mut json = serde_json::to_value(model).map_err(Failure::at("model"))?;
    remove(&mut json, &marks);
    serde_json::from_value(json).map(Some).map_err(Failure::at("model"))
}

fn is_needed(model: &ModelWrapper, mark: &str) -> bool {
    matches!(model, ModelWrapper::BPE(model) if !model.byte_fallback) && mark.chars().count() == 1
}

/// What a model makes of a token's text alone it can make of it in any text, and nothing else: a way to cut a text is
/// at its best within every piece of it.
fn makes(model: &ModelWrapper, mark: &str) -> bool {
    let Some(id) = model.token_to_id(mark) else { return false };
    model.tokenize(mark).is_ok_and(|tokens| tokens.iter().any(|token| token.id == id))
}

fn remove(model: &mut Json, marks: &HashSet<&str>) {
    let text_of = |field: &str| model[field].as_str().unwrap_or_default().to_string();
    let (unknown, prefix) = (text_of("unk_token"), text_of("continuing_subword_prefix"));
    match model.get_mut("vocab") {
        // Unigram: a piece's place is its id, so it stays, but empty texts are not looked for.
        Some(Json::Array(pieces)) => {
            let is_mark = |piece: &&mut Json| piece[0].as_str().is_some_and(|text| marks.contains(text));
            pieces.iter_mut().filter(is_mark).for_each(|piece| piece[0] = "".into());
        }
        Some(Json::Object(ids)) => ids.retain(|token, _| *token == unknown || !marks.contains(token.as_str())),
        _ => {}
    }
    if let Some(Json::Array(merges)) = model.get_mut("merges") {
        merges.retain(|merge| {
            let (left, right) = (merge[0].as_str().unwrap_or_default(), merge[1].as_str().unwrap_or_default());
            let joined = format!("{left}{}", right.strip_prefix(&prefix).unwrap_or(right));
            ![left, right, joined.as_str()].iter().any(|token| marks.contains(token))
        });
    }
}

//! The tokens that are looked for in a text before the model sees it, and the ways to keep those apart that a chat
//! template writes from those that its input holds.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::models::TrainerWrapper;
use tokenizers::{AddedToken, AddedVocabulary, Model, Token};

use crate::failure::{Failure, Outcome};

fn sorted(tokenizer: &tokenizers::Tokenizer) -> Vec<(u32, AddedToken)> {
    let tokens = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    let mut tokens: Vec<_> = tokens.iter().map(|(id, token)| (*id, token.clone())).collect();
    tokens.sort_by_key(|(id, _)| *id);
    tokens
}

/// Finds special tokens in text, and breaks them.
pub struct AddedTokens {
    tokens: Vec<AddedToken>,
    /// The longest of `tokens` that begins earliest, as `tokenizers` takes them.
    leftmost: AhoCorasick,
    specials: Vec<String>,
    /// Every one of `specials`, those within one another too.
    overlapping: AhoCorasick,
    /// What special tokens begin and end with: brackets, mostly. Letters are left out, for names are made of them.
    firsts: HashSet<char>,
    lasts: HashSet<char>,
}

impl AddedTokens {
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Outcome<Self> {
        let tokens: Vec<_> = sorted(tokenizer).into_iter().map(|(_, token)| token).collect();
        // Normalized tokens are looked for later and in other text.
        let tokens: Vec<_> = tokens.into_iter().filter(|token| token.special || !token.normalized).collect();
        let specials: Vec<_> = tokens.iter().filter(|token| token.special).map(|token| token.content.clone()).collect();
        let contents = tokens.iter().map(|token| &token.content);
        Ok(AddedTokens {
            leftmost: AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(contents)
                .map_err(Failure::at("added_tokens"))?,
            overlapping: AhoCorasick::new(&specials).map_err(Failure::at("added_tokens"))?,
            firsts: specials.iter().filter_map(|text| text.chars().next()).filter(is_mark).collect(),
            lasts: specials.iter().filter_map(|text| text.chars().next_back()).filter(is_mark).collect(),
            specials,
            tokens,
        })
    }

    /// Whether `text` could hold a special token or an end of one.
    pub fn touches(&self, text: &str) -> bool {
        self.overlapping.is_match(text) || text.chars().any(|c| self.firsts.contains(&c) || self.lasts.contains(&c))
    }

    /// `text` with `guard` wherever a special token is, or could begin or end: none of it can be a part of one any
    /// more, whatever it is joined with.
    pub fn guard_ends(&self, text: &str, guard: char) -> String {
        let mut guarded = String::with_capacity(text.len() + 16);
        for c in self.guard_whole(text, guard).chars() {
            if self.lasts.contains(&c) {
                guarded.push(guard);
            }
            guarded.push(c);
            if self.firsts.contains(&c) {
                guarded.push(guard);
            }
        }
        guarded
    }

    /// `text` with `guard` after the first character of each special token in it.
    pub fn guard_whole(&self, text: &str, guard: char) -> String {
        let mut places: Vec<usize> = self
            .overlapping
            .find_overlapping_iter(text)
            .map(|found| found.start() + first_length(&self.specials[found.pattern()]))
            .collect();
        places.sort_unstable();
        places.dedup();
        let mut guarded = String::with_capacity(text.len() + 16);
        let mut begin = 0;
        for place in places {
            guarded.push_str(&text[begin..place]);
            guarded.push(guard);
            begin = place;
        }
        guarded.push_str(&text[begin..]);
        guarded
    }

    /// Where special tokens stand in a text whose input was guarded.
    pub fn find_special(&self, text: &str, guard: char) -> Vec<Range<usize>> {
        self.leftmost
            .find_iter(text)
            .filter(|found| {
                let token = &self.tokens[found.pattern()];
                // A single character can't be broken; what follows it tells where it is from.
                let is_input =
                    first_length(&token.content) == token.content.len() && text[found.end()..].starts_with(guard);
                token.special && !is_input
            })
            .map(|found| found.range())
            .collect()
    }
}

fn is_mark(c: &char) -> bool {
    !c.is_alphanumeric()
}

fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The added tokens of a tokenizer, special ones under their text with a marker before it.
#[derive(Clone)]
pub struct MarkedTokens(AddedVocabulary);

impl MarkedTokens {
    pub fn new(marker: char, tokenizer: &tokenizers::Tokenizer) -> Outcome<Self> {
        let mut ids = HashMap::new();
        let mut tokens = Vec::new();
        for (id, mut token) in sorted(tokenizer) {
            if token.special {
                token.content.insert(0, marker);
                // A normalizer may do anything to the marker.
                token.normalized = false;
            }
            ids.insert(token.content.clone(), id);
            tokens.push(token);
        }
        let mut vocabulary = AddedVocabulary::new();
        vocabulary
            .add_tokens(tokens, &KnownIds(ids), tokenizer.get_normalizer())
            .map_err(Failure::at("added_tokens"))?;
        Ok(MarkedTokens(vocabulary))
    }

    pub fn vocabulary(&self) -> &AddedVocabulary {
        &self.0
    }
}

/// Tells `AddedVocabulary` which ids its tokens have; there is nothing else to this model.
struct KnownIds(HashMap<String, u32>);

impl Model for KnownIds {
    type Trainer = TrainerWrapper;

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.get(token).copied()
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.iter().find(|(_, known)| **known == id).map(|(token, _)| token.clone())
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.clone()
    }
    fn get_vocab_size(&self) -> usize {
        self.0.len()
    }
    fn tokenize(&self, _: &str) -> tokenizers::Result<Vec<Token>> {
        Err("has no tokens of its own".into())
    }
    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("is not saved".into())
    }
    fn get_trainer(&self) -> Self::Trainer {
        unreachable!("nothing is trained here")
    }
}

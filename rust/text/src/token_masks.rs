//! The tokens that may come next, without trying each: where a grammar takes any text of some kind, the tokens of that
//! kind are known at once, and only the others are tried.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::derivre::{HashSet, Regex, StateID};
use llguidance::earley::{BiasComputer, ParserRecognizer};
use llguidance::toktrie::{SimpleVob, TokEnv, TokTrie};

use crate::failure::{Failure, Outcome};
use crate::token_tree::TokenTree;

/// Within texts of JSON, each a part of the one before.
pub const JSON_TEXTS: [&str; 3] =
    [r#"[^"\\\x00-\x1F\x7F]+"#, r#"[^"\\\x00-\x1F\x7F]{1,30}"#, r#"[^"\\\x00-\x1F\x7F]{1,10}"#];

/// Free text up to a tag, or within one that has begun: tags begin and end with these.
const PROSE: &str = "[^<>]+";
const NO_PROSE: [u8; 2] = [b'<', b'>'];

/// Of the vocabulary: shared by all grammars.
pub struct TokenKinds {
    environment: TokEnv,
    prose: TokenKind,
    /// In the order of JSON_TEXTS.
    json_texts: Vec<TokenKind>,
}

struct TokenKind {
    tokens: SimpleVob,
    others: TokenTree,
}

impl TokenKinds {
    pub fn new(environment: &TokEnv) -> Outcome<Self> {
        let trie = environment.tok_trie();
        let sorted = trie.sorted_tokens();
        let prose = TokenKind::new(trie, &sorted, PROSE)?;
        let json_texts = JSON_TEXTS.iter().map(|regex| TokenKind::new(trie, &sorted, regex)).collect::<Outcome<_>>()?;
        Ok(TokenKinds { environment: environment.clone(), prose, json_texts })
    }

    pub fn bytes(&self) -> usize {
        [&self.prose].into_iter().chain(&self.json_texts).map(TokenKind::bytes).sum()
    }
}

impl TokenKind {
    fn new(trie: &TokTrie, sorted: &[(u32, Vec<u8>)], regex: &str) -> Outcome<Self> {
        let mut matcher = Regex::new(regex).map_err(Failure::at("vocabulary"))?;
        let mut tokens = trie.alloc_token_set();
        for (token, text) in sorted {
            if matcher.is_match_bytes(text) {
                tokens.allow_token(*token);
            }
        }
        let others = sorted.iter().filter(|(token, _)| !tokens.is_allowed(*token));
        let others = TokenTree::new(others.map(|(token, text)| (*token, text.as_slice())));
        Ok(TokenKind { tokens, others })
    }

    fn bytes(&self) -> usize {
        self.others.bytes() + size_of_val(self.tokens.as_slice())
    }
}

/// Of one lexer, as its states are.
pub struct TokenMasks {
    kinds: Arc<TokenKinds>,
    takes_prose: Mutex<HashMap<StateID, bool>>,
}

impl TokenMasks {
    pub fn new(kinds: Arc<TokenKinds>) -> Self {
        TokenMasks { kinds, takes_prose: Mutex::default() }
    }

    fn kind(&self, recognizer: &mut ParserRecognizer<'_>) -> Option<&TokenKind> {
        const BUDGET: u64 = 1_000;
        let state = recognizer.lexer_state();
        if state.is_dead() {
            return None;
        }
        if self.takes_prose(recognizer, state) {
            return Some(&self.kinds.prose);
        }
        let lexer = recognizer.lexer_mut();
        if !lexer.subsume_possible(state) {
            return None;
        }
        let takes = |i: &usize| lexer.check_subsume(state, *i, BUDGET, None).unwrap_or(false);
        (0..JSON_TEXTS.len()).find(takes).map(|i| &self.kinds.json_texts[i])
    }

    /// Whether no prose, however long, leads out of the lexemes that may be there.
    fn takes_prose(&self, recognizer: &mut ParserRecognizer<'_>, state: StateID) -> bool {
        let mut known = self.takes_prose.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(takes) = known.get(&state) {
            return *takes;
        }
        let (states, takes) = states_of_prose(recognizer, state);
        for state in states {
            known.entry(state).or_insert(takes);
        }
        takes
    }
}

impl BiasComputer for TokenMasks {
    fn compute_bias(&self, recognizer: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut mask = self.trie().alloc_token_set();
        let kind = if start.is_empty() { self.kind(recognizer) } else { None };
        if let Some(kind) = kind {
            mask.or(&kind.tokens);
            kind.others.allow(recognizer, &mut mask);
        } else {
            self.trie().add_bias(recognizer, &mut mask, start);
        }
        mask
    }

    fn trie(&self) -> &TokTrie {
        self.kinds.environment.tok_trie()
    }
}

/// Free text has a state or a few; what has more counts characters or tells them apart, and looking on would use up the
/// lexer's fuel.
const MOST_STATES: usize = 8;

enum NoProse {
    LeadsOut,
    TakesTooLong,
}

/// The states that an answer is for, and whether any prose may come there. Where some may not, or ends a lexeme, tokens
/// are tried; in all states that were met, where it would take too long to tell.
fn states_of_prose(recognizer: &mut ParserRecognizer<'_>, from: StateID) -> (HashSet<StateID>, bool) {
    let mut found: HashSet<StateID> = [from].into_iter().collect();
    let mut open = vec![from];
    while let Some(state) = open.pop() {
        for character in CHARACTERS {
            let mut states: HashSet<StateID> = [state].into_iter().collect();
            for bytes in *character {
                match states_after(recognizer, &states, bytes.clone()) {
                    Ok(after) => states = after,
                    Err(NoProse::LeadsOut) => return ([from].into_iter().collect(), false),
                    Err(NoProse::TakesTooLong) => return (found, false),
                }
            }
            open.extend(states.into_iter().filter(|state| found.insert(*state)));
            if found.len() > MOST_STATES {
                return (found, false);
            }
        }
    }
    (found, true)
}

fn states_after(
    recognizer: &mut ParserRecognizer<'_>,
    states: &HashSet<StateID>,
    bytes: RangeInclusive<u8>,
) -> Result<HashSet<StateID>, NoProse> {
    let mut after = HashSet::default();
    for byte in bytes.filter(|byte| !NO_PROSE.contains(byte)) {
        for state in states {
            let next = recognizer.lexer_mut().transition_start_state(*state, Some(byte), &None);
            if next.is_dead() || next.has_lowest_match() {
                return Err(NoProse::LeadsOut);
            }
            after.insert(next);
            if after.len() > MOST_STATES {
                return Err(NoProse::TakesTooLong);
            }
        }
    }
    Ok(after)
}

/// Those of UTF-8, by RFC 3629: the ranges of their bytes.
const CHARACTERS: &[&[RangeInclusive<u8>]] = &[
    &[0x00..=0x7f],
    &[0xc2..=0xdf, 0x80..=0xbf],
    &[0xe0..=0xe0, 0xa0..=0xbf, 0x80..=0xbf],
    &[0xe1..=0xec, 0x80..=0xbf, 0x80..=0xbf],
    &[0xed..=0xed, 0x80..=0x9f, 0x80..=0xbf],
    &[0xee..=0xef, 0x80..=0xbf, 0x80..=0xbf],
    &[0xf0..=0xf0, 0x90..=0xbf, 0x80..=0xbf, 0x80..=0xbf],
    &[0xf1..=0xf3, 0x80..=0xbf, 0x80..=0xbf, 0x80..=0xbf],
    &[0xf4..=0xf4, 0x80..=0x8f, 0x80..=0xbf, 0x80..=0xbf],
];

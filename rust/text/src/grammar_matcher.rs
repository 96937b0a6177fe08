//! Follows a reply that keeps to a grammar, token by token.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

use llguidance::api::StopReason;
use llguidance::toktrie::TokTrie;
use llguidance::TokenParser;

use crate::failure::{Failure, Outcome};
use crate::grammar::{fresh, reason_of, Vocabulary};

/// A text that must come, as it was found once.
struct Certain {
    /// Of the tokens before it, and of their texts.
    tokens: usize,
    begin_bytes: usize,
    bytes: Vec<u8>,
}

/// Matchers of a grammar share a lexer, and with it a limit that one of them passes. The others then go on with one of
/// their own, and so does that one: it ends when it passes the limit alone.
pub struct GrammarMatcher {
    vocabulary: Arc<Vocabulary>,
    pristine: Arc<Mutex<TokenParser>>,
    parser: TokenParser,
    tokens: Vec<u32>, // pushed
    is_alone: bool,
    failure: Option<String>, // for good
    certain: Option<Certain>,
    asks: bool, // for what is forced
}

impl GrammarMatcher {
    /// Of a parser that may share its lexer; `pristine` is the grammar as it was compiled.
    pub fn new(vocabulary: Arc<Vocabulary>, pristine: Arc<Mutex<TokenParser>>, parser: TokenParser) -> Self {
        GrammarMatcher {
            vocabulary,
            pristine,
            parser,
            tokens: Vec::new(),
            is_alone: false,
            failure: None,
            certain: None,
            asks: true,
        }
    }

    /// A bit per token that may come next; true when the text may also end here. None may come when it must end.
    pub fn mask(&mut self, words: &mut [u32]) -> Outcome<bool> {
        words.fill(0);
        let found = self.step(|parser| match parser.stop_reason() {
            StopReason::NotStopped => Ok((Some(parser.compute_mask()?), parser.is_accepting())),
            _ => Ok((None, true)),
        });
        let (mask, may_end) = found?;
        if let Some(mask) = mask {
            let size = words.len().min(mask.as_slice().len());
            words[..size].copy_from_slice(&mask.as_slice()[..size]);
        }
        Ok(may_end)
    }

    pub fn may_end(&mut self) -> Outcome<bool> {
        self.step(|parser| Ok(parser.stop_reason() != StopReason::NotStopped || parser.is_accepting()))
    }

    /// False, and nothing has changed, where it may not come.
    pub fn push(&mut self, token: i32) -> Outcome<bool> {
        let Some(token) = u32::try_from(token).ok().filter(|token| (*token as usize) < self.vocabulary.size()) else {
            return Ok(false);
        };
        let is_taken = self.step(|parser| take(parser, token))?;
        if is_taken {
            self.tokens.push(token);
        }
        Ok(is_taken)
    }

    pub fn pop(&mut self, tokens: usize) -> Outcome<()> {
        self.step(|parser| {
            parser.rollback(tokens)?;
            parser.invalidate_bias_cache(); // it may be of another text that was as long
            Ok(())
        })?;
        self.tokens.truncate(self.tokens.len() - tokens);
        self.certain.take_if(|certain| self.tokens.len() < certain.tokens);
        Ok(())
    }

    /// Tokens that spell what must come next, without those that the text behind may have a part in.
    pub fn forced(&mut self, most: usize) -> Vec<i32> {
        const MOST_TOKEN_BYTES: usize = 16; // of most tokens
        self.find_certain();
        let pushed_bytes = self.pushed_bytes();
        let Some(certain) = self.certain.as_ref().map(|certain| &certain.bytes[pushed_bytes - certain.begin_bytes..])
        else {
            return Vec::new();
        };
        let size = certain.len().min(most.saturating_add(1).saturating_mul(MOST_TOKEN_BYTES));
        if size == 0 {
            return Vec::new();
        }
        let trie = self.vocabulary.trie();
        let (mut tokens, whole) = self.vocabulary.environment().tokenize_bytes_marker(&certain[..size]);
        let is_open = |last: u32| size < certain.len() || trie.has_extensions(trie.token(last));
        if tokens.len() > whole && is_open(tokens[tokens.len() - 1]) {
            tokens.pop();
        }
        tokens.truncate(most);
        tokens.into_iter().map(|token| token as i32).collect()
    }

    /// The parser walks all of it, so this is done once for each such text. A token that is no text stands alone.
    fn find_certain(&mut self) {
        let pushed_bytes = self.pushed_bytes();
        let is_known = |certain: &Certain| {
            let is_text = certain.bytes.first().is_some_and(|byte| *byte != TokTrie::SPECIAL_TOKEN_MARKER);
            let is_within = is_text && pushed_bytes < certain.begin_bytes + certain.bytes.len();
            is_within || self.tokens.len() == certain.tokens
        };
        if self.certain.as_ref().is_some_and(is_known) {
            return;
        }
        let mut bytes = self.walk_certain();
        if let Some(end) = bytes.iter().skip(1).position(|byte| *byte == TokTrie::SPECIAL_TOKEN_MARKER) {
            bytes.truncate(end + 1);
        }
        self.certain = Some(Certain { tokens: self.tokens.len(), begin_bytes: pushed_bytes, bytes });
    }

    fn pushed_bytes(&self) -> usize {
        let trie = self.vocabulary.trie();
        self.tokens.iter().map(|token| trie.token_len(*token)).sum()
    }

    /// A text too long to walk at once may well come step by step: its failure is none of the reply's.
    fn walk_certain(&mut self) -> Vec<u8> {
        if !self.asks || self.failure.is_some() {
            return Vec::new();
        }
        match attempt(&mut self.parser, &mut |parser| Ok(parser.force_bytes())) {
            Ok(bytes) => bytes,
            Err(_) => {
                self.asks = false;
                let restarted = self.restarted();
                self.keep(restarted);
                Vec::new()
            }
        }
    }

    /// A second time, alone, when another reply may have spoilt the first.
    fn step<T>(&mut self, mut work: impl FnMut(&mut TokenParser) -> anyhow::Result<T>) -> Outcome<T> {
        if let Some(reason) = &self.failure {
            return Err(Failure::new(reason));
        }
        let first = attempt(&mut self.parser, &mut work);
        let found = match first {
            Err(_) if !self.is_alone => {
                self.is_alone = true;
                let restarted = self.restarted();
                if self.keep(restarted) {
                    attempt(&mut self.parser, &mut work)
                } else {
                    Err(self.failure.clone().unwrap_or_default())
                }
            }
            found => found,
        };
        found.map_err(|reason| {
            self.failure = Some(reason.clone());
            Failure::new(reason)
        })
    }

    /// One with a lexer of its own, where this one is.
    fn restarted(&self) -> Result<TokenParser, String> {
        const TOKENS_A_MASK: usize = 32; // Only a mask gives the lexer its fuel back.
        let mut parser = fresh(&self.vocabulary, &self.pristine);
        for (i, token) in self.tokens.iter().enumerate() {
            let is_taken = attempt(&mut parser, &mut |parser| {
                if i % TOKENS_A_MASK == 0 && parser.stop_reason() == StopReason::NotStopped {
                    parser.compute_mask()?;
                }
                take(parser, *token)
            })?;
            if !is_taken {
                return Err("what was taken before isn't any more".into());
            }
        }
        Ok(parser)
    }

    fn keep(&mut self, restarted: Result<TokenParser, String>) -> bool {
        match restarted {
            Ok(parser) => self.parser = parser,
            Err(reason) => self.failure = Some(reason),
        }
        self.failure.is_none()
    }
}

fn take(parser: &mut TokenParser, token: u32) -> anyhow::Result<bool> {
    if parser.stop_reason() != StopReason::NotStopped || !parser.validate_token(token)? {
        return Ok(false);
    }
    anyhow::ensure!(parser.consume_token(token)? == 0, "unexpected backtracking");
    parser.check_stop()?;
    Ok(true)
}

/// What the parser can't do, or only seemed to: beyond a limit it takes nothing, and says so elsewhere.
fn attempt<T>(
    parser: &mut TokenParser,
    work: &mut impl FnMut(&mut TokenParser) -> anyhow::Result<T>,
) -> Result<T, String> {
    let made = catch_unwind(AssertUnwindSafe(|| {
        let found = work(parser)?;
        match parser.parser.get_error() {
            Some(error) => Err(anyhow::anyhow!(error.message())),
            None => Ok(found),
        }
    }));
    match made {
        Ok(found) => found.map_err(reason_of),
        Err(_) => Err("the parser failed".into()),
    }
}

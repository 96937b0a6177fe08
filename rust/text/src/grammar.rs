//! Grammars that a reply keeps to, by llguidance: a vocabulary, grammars compiled for it, and matchers that follow a
//! reply token by token. Vocabularies and grammars are immutable and shared; a matcher has one owner.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{GrammarWithLexer, ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::regexvec::LexerStats;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie, INVALID_TOKEN};
use llguidance::{Matcher, ParserFactory, TokenParser};

use crate::failure::{Failure, Outcome};
use crate::{deep_stack, lark_schemas, schema};

const MOST_TEXT_BYTES: usize = 1 << 20;
const MOST_REGEX_BYTES: usize = 64 << 10;
/// What one grammar's matchers may learn of their texts together before the next matcher starts anew.
const MOST_LEARNT_BYTES: usize = 16 << 20;

/// Free text up to a tag. Tokens of which a grammar allows all that match it are found at once.
const PROSE: &str = r"[^<\xFF]+";

fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

pub struct Texts<'a> {
    /// [ids + 1]
    pub offsets: &'a [u32],
    pub bytes: &'a [u8],
    /// [ids]
    pub special: &'a [u8],
    pub ends: &'a [i32],
}

pub struct Vocabulary {
    factory: ParserFactory,
    size: usize,
    text_bytes: usize,
}

impl Vocabulary {
    pub fn new(texts: &Texts) -> Outcome<Self> {
        let size = texts.special.len();
        let is_whole = size > 0 && texts.offsets.len() == size + 1;
        if !is_whole || texts.offsets.windows(2).any(|ends| ends[0] > ends[1] || ends[1] as usize > texts.bytes.len()) {
            return Err(Failure::new("the vocabulary's offsets don't fit its texts"));
        }
        deep_stack::run("grammar", || Self::build(texts))
    }

    fn build(texts: &Texts) -> Outcome<Self> {
        let size = texts.special.len();
        let word = |id: usize| {
            let text = &texts.bytes[texts.offsets[id] as usize..texts.offsets[id + 1] as usize];
            match texts.special[id] {
                0 => text.to_vec(),
                _ => [&[TokTrie::SPECIAL_TOKEN_MARKER], text].concat(),
            }
        };
        let words: Vec<_> = (0..size).map(word).collect();
        let mut trie = TokTrie::from(&TokRxInfo::new(size as u32, INVALID_TOKEN), &words);
        let ends: Vec<u32> = texts.ends.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        let ends: Vec<u32> = ends.into_iter().filter(|id| (*id as usize) < size).collect();
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let environment = Arc::new(ApproximateTokEnv::new(trie));
        let mut slices = SlicedBiasComputer::json_slices();
        slices.push(PROSE.into());
        let made = ParserFactory::new(&(environment as _), InferenceCapabilities::default(), &slices);
        let mut factory = made.map_err(Failure::at("vocabulary"))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Vocabulary { factory, size, text_bytes: texts.bytes.len() })
    }

    /// About what it takes: a trie and those of its slices, each node 8 bytes, each token's place 8.
    pub fn bytes(&self) -> usize {
        6 * (self.size * 24 + self.text_bytes * 8)
    }

    fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }
}

#[derive(Clone, Copy)]
pub enum Syntax {
    JsonSchema,
    Regex,
    Lark,
}

pub struct Grammar {
    vocabulary: Arc<Vocabulary>,
    /// As compiled, and what matchers start from: those share what they learn of the texts between lexemes.
    pristine: Arc<Mutex<TokenParser>>,
    learnt: Mutex<TokenParser>,
    text_bytes: usize,
}

impl Grammar {
    pub fn compile(vocabulary: &Arc<Vocabulary>, syntax: Syntax, text: &str) -> Outcome<Self> {
        let most = if matches!(syntax, Syntax::Regex) { MOST_REGEX_BYTES } else { MOST_TEXT_BYTES };
        if text.len() > most {
            return Err(refusal(syntax, format!("{} bytes are over the limit of {most}", text.len())));
        }
        deep_stack::run("grammar", || Self::build(vocabulary, syntax, text))
    }

    fn build(vocabulary: &Arc<Vocabulary>, syntax: Syntax, text: &str) -> Outcome<Self> {
        let grammar = match syntax {
            Syntax::JsonSchema => GrammarWithLexer::from_json_schema(schema::read(text)?),
            Syntax::Regex if text.is_empty() => return Err(Failure::new("the expression is empty")),
            Syntax::Regex => GrammarWithLexer::from_regex(text),
            Syntax::Lark if text.trim().is_empty() => return Err(Failure::new("the grammar is empty")),
            Syntax::Lark => GrammarWithLexer::from_lark(lark_schemas::prepare(text)?),
        };
        let refused = |error| refusal(syntax, reason_of(error));
        let factory = &vocabulary.factory;
        let mut parser = factory.create_parser(TopLevelGrammar::from_grammar(grammar)).map_err(refused)?;
        parser.parser.grammar().lexer_spec().check_rollback().map_err(refused)?;
        parser.start_without_prompt();
        // The first mask tells whether anything can come at all, and many a step passes the same states again.
        let mut first = Matcher::new(Ok(parser.clone()));
        if let Err(error) = first.compute_mask_or_eos() {
            let reason = reason_of(error);
            let is_dead_end = reason == StopReason::NoExtensionBias.to_string();
            return Err(refusal(syntax, if is_dead_end { "no text keeps to it".into() } else { reason }));
        }
        let pristine = Arc::new(Mutex::new(parser.deep_clone()));
        Ok(Grammar { vocabulary: vocabulary.clone(), pristine, learnt: Mutex::new(parser), text_bytes: text.len() })
    }

    /// About what it takes now.
    pub fn bytes(&self) -> usize {
        let of = |parser: &Mutex<TokenParser>| {
            let parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
            stats_of(&parser).map_or(MOST_LEARNT_BYTES, |stats| stats.num_bytes)
        };
        of(&self.pristine) + of(&self.learnt) + 20 * self.text_bytes + (64 << 10)
    }

    pub fn matcher(&self) -> Outcome<GrammarMatcher> {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(&learnt) {
            *learnt = fresh(&self.pristine);
        }
        Ok(GrammarMatcher {
            vocabulary: self.vocabulary.clone(),
            pristine: self.pristine.clone(),
            parser: learnt.clone(),
            tokens: Vec::new(),
            is_alone: false,
            failure: None,
            certain: None,
            asks: true,
        })
    }
}

/// With a lexer of its own.
fn fresh(pristine: &Mutex<TokenParser>) -> TokenParser {
    pristine.lock().unwrap_or_else(PoisonError::into_inner).deep_clone()
}

/// None where a matcher's failure has spoilt it.
fn stats_of(parser: &TokenParser) -> Option<LexerStats> {
    let stats = catch_unwind(AssertUnwindSafe(|| parser.parser.lexer_stats())).ok()?;
    (!stats.error).then_some(stats)
}

/// Whether one more reply may learn from it and add to it.
fn has_room(parser: &TokenParser) -> bool {
    let most_states = limits().max_lexer_states / 2;
    stats_of(parser).is_some_and(|stats| stats.num_bytes <= MOST_LEARNT_BYTES && stats.num_states <= most_states)
}

fn refusal(syntax: Syntax, reason: impl Into<String>) -> Failure {
    match syntax {
        Syntax::JsonSchema => Failure::UnsupportedSchema(reason.into()),
        Syntax::Regex | Syntax::Lark => Failure::Invalid(reason.into()),
    }
}

/// In one line: without the excerpts, traces and states that the compiler adds.
pub fn reason_of(error: anyhow::Error) -> String {
    in_one_line(&format!("{error:#}"))
}

fn in_one_line(reason: &str) -> String {
    const MOST_CHARS: usize = 200;
    let first = reason.lines().next().unwrap_or_default();
    // A regular expression that can't be read is shown in lines of its own, and the cause behind it.
    let cause = reason.lines().find_map(|line| line.strip_prefix("error: "));
    match first.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}... {}", &first[..end], cause.unwrap_or_default()),
        None => [Some(first), cause].into_iter().flatten().collect::<Vec<_>>().join(" "),
    }
}

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
        let Some(token) = u32::try_from(token).ok().filter(|token| (*token as usize) < self.vocabulary.size) else {
            return Ok(false);
        };
        let is_taken = self.step(|parser| take(parser, token))?;
        if is_taken {
            self.tokens.push(token);
        }
        Ok(is_taken)
    }

    pub fn pop(&mut self, tokens: usize) -> Outcome<()> {
        self.step(|parser| parser.rollback(tokens))?;
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
        let (mut tokens, whole) = self.vocabulary.factory.tok_env().tokenize_bytes_marker(&certain[..size]);
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
        let mut parser = fresh(&self.pristine);
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

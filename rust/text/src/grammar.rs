//! Grammars that a reply keeps to, by llguidance: a vocabulary, grammars compiled for it, and matchers that follow a
//! reply token by token. Vocabularies and grammars are immutable and shared; a matcher has one owner.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{GrammarWithLexer, ParserLimits, StopReason, TopLevelGrammar};
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
    pristine: Mutex<TokenParser>,
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
        let pristine = Mutex::new(parser.deep_clone());
        Ok(Grammar { vocabulary: vocabulary.clone(), pristine, learnt: Mutex::new(parser), text_bytes: text.len() })
    }

    /// About what it takes now.
    pub fn bytes(&self) -> usize {
        let of = |parser: &Mutex<TokenParser>| {
            let parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
            learnt_bytes(&parser).unwrap_or(MOST_LEARNT_BYTES)
        };
        of(&self.pristine) + of(&self.learnt) + 20 * self.text_bytes + (64 << 10)
    }

    pub fn matcher(&self) -> Outcome<GrammarMatcher> {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt_bytes(&learnt).is_none_or(|bytes| bytes > MOST_LEARNT_BYTES) {
            *learnt = self.pristine.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
        }
        let matcher = Matcher::new(Ok(learnt.clone()));
        Ok(GrammarMatcher { vocabulary: self.vocabulary.clone(), matcher })
    }
}

/// None where a matcher's failure has spoilt it.
fn learnt_bytes(parser: &TokenParser) -> Option<usize> {
    let stats = catch_unwind(AssertUnwindSafe(|| parser.parser.lexer_stats())).ok()?;
    (!stats.error).then_some(stats.num_bytes)
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

pub struct GrammarMatcher {
    vocabulary: Arc<Vocabulary>,
    matcher: Matcher,
}

impl GrammarMatcher {
    /// A bit per token that may come next; true when the text may also end here. None may come when it must end.
    pub fn mask(&mut self, words: &mut [u32]) -> Outcome<bool> {
        words.fill(0);
        if self.is_over()? {
            return Ok(true);
        }
        let mask = match self.matcher.compute_mask() {
            Ok(mask) => mask,
            Err(error) => return Err(Failure::new(reason_of(error))),
        };
        let size = words.len().min(mask.as_slice().len());
        words[..size].copy_from_slice(&mask.as_slice()[..size]);
        self.may_end()
    }

    pub fn may_end(&mut self) -> Outcome<bool> {
        Ok(self.is_over()? || self.matcher.is_accepting().map_err(|error| Failure::new(reason_of(error)))?)
    }

    /// Nothing can come any more.
    fn is_over(&self) -> Outcome<bool> {
        match self.matcher.stop_reason() {
            StopReason::NotStopped => Ok(false),
            reason if reason.is_ok() => Ok(true),
            reason => {
                Err(Failure::new(self.matcher.get_error().map_or(reason.to_string(), |error| in_one_line(&error))))
            }
        }
    }

    /// False, and nothing has changed, where it may not come.
    pub fn push(&mut self, token: i32) -> Outcome<bool> {
        let Some(token) = u32::try_from(token).ok().filter(|token| (*token as usize) < self.vocabulary.size) else {
            return Ok(false);
        };
        if self.is_over()? {
            return Ok(false);
        }
        let taken = self.matcher.try_consume_tokens(&[token]).map_err(|error| Failure::new(reason_of(error)))?;
        Ok(taken == 1)
    }

    pub fn pop(&mut self, tokens: usize) -> Outcome<()> {
        self.matcher.rollback(tokens).map_err(|error| Failure::new(reason_of(error)))
    }

    /// Tokens that spell what must come next, without those that the text behind may have a part in.
    pub fn forced(&mut self, most: usize) -> Vec<i32> {
        let bytes = self.matcher.compute_ff_bytes();
        if bytes.is_empty() {
            return Vec::new();
        }
        let trie = self.vocabulary.trie();
        let (mut tokens, whole) = self.vocabulary.factory.tok_env().tokenize_bytes_marker(&bytes);
        if tokens.len() > whole && trie.has_extensions(trie.token(tokens[tokens.len() - 1])) {
            tokens.pop();
        }
        tokens.truncate(most);
        tokens.into_iter().map(|token| token as i32).collect()
    }
}

//! Grammars that a reply keeps to, by llguidance: a vocabulary, grammars compiled for it, and matchers that follow a
//! reply token by token. Vocabularies and grammars are immutable and shared; a matcher has one owner.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::{GrammarWithLexer, ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::regexvec::LexerStats;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv, INVALID_TOKEN};
use llguidance::{Matcher, ParserFactory, TokenParser};

use crate::failure::{Failure, Outcome};
use crate::grammar_matcher::GrammarMatcher;
use crate::token_masks::{TokenKinds, TokenMasks, JSON_TEXTS};
use crate::{deep_stack, lark_schemas, schema};

const MOST_TEXT_BYTES: usize = 1 << 20;
const MOST_REGEX_BYTES: usize = 64 << 10;
/// What one grammar's matchers may learn of their texts together before the next matcher starts anew.
const MOST_LEARNT_BYTES: usize = 16 << 20;

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
    kinds: Arc<TokenKinds>,
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
                0 if text.contains(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(), // no text has this byte
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
        let environment = Arc::new(Environment {
            none: TokTrie::from(&TokRxInfo::new(0, INVALID_TOKEN), &[]),
            whole: OnceLock::new(),
        });
        let shared: TokEnv = environment.clone();
        let regexes = JSON_TEXTS.map(String::from);
        let made = ParserFactory::new(&shared, InferenceCapabilities::default(), &regexes);
        let mut factory = made.map_err(Failure::at("vocabulary"))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        environment.whole.get_or_init(|| trie);
        let kinds = Arc::new(TokenKinds::new(&shared)?);
        Ok(Vocabulary { factory, kinds, size, text_bytes: texts.bytes.len() })
    }

    /// A trie's node takes 8 bytes, and each token's place in it 12.
    pub fn bytes(&self) -> usize {
        self.trie().root().subtree_size() * 8 + self.size * 12 + self.text_bytes + self.kinds.bytes()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn environment(&self) -> &TokEnv {
        self.factory.tok_env()
    }

    /// For a lexer that has computed none.
    fn masks(&self) -> Arc<TokenMasks> {
        Arc::new(TokenMasks::new(self.kinds.clone()))
    }

    pub fn trie(&self) -> &TokTrie {
        self.environment().tok_trie()
    }
}

/// Without the vocabulary while the factory is made, which else would hold it many times over for masks of its own;
/// TokenMasks takes their place.
struct Environment {
    none: TokTrie,
    whole: OnceLock<TokTrie>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        self.whole.get().unwrap_or(&self.none)
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.tok_trie().greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
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
        parser.bias_computer = vocabulary.masks();
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
            *learnt = fresh(&self.vocabulary, &self.pristine);
        }
        Ok(GrammarMatcher::new(self.vocabulary.clone(), self.pristine.clone(), learnt.clone()))
    }
}

/// With a lexer of its own.
pub fn fresh(vocabulary: &Vocabulary, pristine: &Mutex<TokenParser>) -> TokenParser {
    let mut parser = pristine.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
    parser.bias_computer = vocabulary.masks();
    parser
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

//! The tokens that are looked for in a text before the model sees it. They are found and cut out as `tokenizers` does
//! it, except that some are *reserved*: these count only where the caller says so.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use regex::Regex;
use tokenizers::normalizer::Range as Offsets;
use tokenizers::{AddedToken, NormalizedString, Normalizer, PreTokenizedString, Token};

use crate::failure::{Failure, Outcome};
use crate::sampled::Spelled;

/// Where a token stands in a text, in bytes.
#[derive(Clone, Debug)]
pub struct Match {
    /// Its index in `AddedTokens::tokens`.
    pub token: usize,
    pub range: Range<usize>,
}

/// The parts of a text, and the tokens of those that have some.
type Cuts = Vec<(NormalizedString, Option<Vec<Token>>)>;

pub struct AddedTokens {
    tokens: Vec<(u32, AddedToken)>,
    /// Those that are looked for in the text as it is.
    as_is: Finder,
    /// The others, which are looked for in normalized text: as the file spells them, and normalized.
    spelled: Finder,
    normalized: Finder,
    /// All, those within one another too.
    overlapping: AhoCorasick,
    /// By what they begin and end with around a name: "<|" and "|>".
    frames: HashMap<(String, String), Vec<usize>>,
}

impl AddedTokens {
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Outcome<Self> {
        let vocabulary = tokenizer.get_added_vocabulary();
        let decoder = vocabulary.get_added_tokens_decoder();
        let mut tokens: Vec<_> = decoder.iter().map(|(id, token)| (*id, token.clone())).collect();
        tokens.sort_by_key(|(id, _)| *id);

        let (mut as_is, mut spelled, mut normalized) = (Vec::new(), Vec::new(), Vec::new());
        let mut frames: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, (id, token)) in tokens.iter().enumerate() {
            if token.normalized {
                spelled.push((i, token.content.clone()));
                normalized.push((i, vocabulary.simple_id_to_token(*id).unwrap_or_default()));
            } else {
                as_is.push((i, token.content.clone()));
            }
            if let Some((begin, end)) = frame(&token.content) {
                frames.entry((begin.to_string(), end.to_string())).or_default().push(i);
            }
        }
        Ok(AddedTokens {
            as_is: Finder::new(as_is)?,
            spelled: Finder::new(spelled)?,
            normalized: Finder::new(normalized)?,
            overlapping: AhoCorasick::new(tokens.iter().map(|(_, token)| &token.content))
                .map_err(Failure::at("added_tokens"))?,
            frames,
            tokens,
        })
    }

    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &AddedToken> {
        self.tokens.iter().map(|(_, token)| token)
    }

    /// The texts that stand for no text: special tokens, and names in brackets, as many a vocabulary does not flag its
    /// turn tokens.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let marks = self.tokens().filter(|token| token.special || frame(&token.content).is_some());
        marks.map(|token| token.content.as_str())
    }

    pub fn frames(&self) -> &HashMap<(String, String), Vec<usize>> {
        &self.frames
    }

    /// Every token in `text`, those within one another too.
    pub fn find_all<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Match> + 'a {
        let found = self.overlapping.find_overlapping_iter(text);
        found.map(|found| Match { token: found.pattern().as_usize(), range: found.range() })
    }

    /// The tokens that `tokenizers` would find in `text`, those that it normalizes as they are spelled.
    pub fn find(&self, text: &str) -> Vec<Match> {
        let mut found = Vec::new();
        let mut begin = 0;
        for token in self.as_is.find(text, 0..text.len(), |_| true) {
            found.extend(self.spelled.find(text, begin..token.range.start, |_| true));
            begin = token.range.end;
            found.push(token);
        }
        found.extend(self.spelled.find(text, begin..text.len(), |_| true));
        found
    }

    /// The token with this id, by its index in `tokens`.
    pub fn index_of(&self, id: u32) -> Option<usize> {
        self.tokens.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    /// Where a token's piece of `text` ends: it may take the blanks behind it.
    pub fn end_of(&self, found: &Match, text: &str) -> usize {
        let after = &text[found.range.end..];
        let takes_blanks = self.tokens[found.token].1.rstrip;
        text.len() - if takes_blanks { after.trim_start() } else { after }.len()
    }

    /// AddedVocabulary::extract_and_normalize, but reserved tokens count where they are among `own` only, and all of
    /// those are taken before the text is normalized: what stands beside one can't make it another text. What is
    /// `spelled` already is cut out first, so that nothing reaches over its ends.
    pub fn extract_and_normalize<N: Normalizer>(
        &self,
        normalizer: Option<&N>,
        text: &str,
        is_reserved: &[bool],
        own: &[Match],
        spelled: &[Spelled],
    ) -> Outcome<PreTokenizedString> {
        let mut pieces = PreTokenizedString::from(text);
        pieces
            .split(|_, piece| {
                let mut cuts = Vec::with_capacity(2 * own.len() + spelled.len() + 1);
                let mut begin = 0;
                for Spelled { range, ids } in spelled {
                    cuts.extend(self.cut_reserved(&piece, begin..range.start, is_reserved, own));
                    let tokens = ids.iter().map(|id| Token::new(*id, String::new(), (0, 0))).collect();
                    cuts.push((slice(&piece, range.clone()), Some(tokens)));
                    begin = range.end;
                }
                cuts.extend(self.cut_reserved(&piece, begin..text.len(), is_reserved, own));
                Ok(cuts)
            })
            .map_err(Failure::new)?;
        pieces
            .split(|_, mut piece| {
                if let Some(normalizer) = normalizer {
                    normalizer.normalize(&mut piece)?;
                }
                let is_free = |found: &Match| !is_reserved[found.token];
                let found = self.normalized.find(piece.get(), 0..piece.len(), is_free).collect();
                Ok(self.cut(&piece, found))
            })
            .map_err(Failure::new)?;
        Ok(pieces)
    }

    /// The part of a text that lies `within`.
    fn cut_reserved(&self, text: &NormalizedString, within: Range<usize>, is_reserved: &[bool], own: &[Match]) -> Cuts {
        if within.is_empty() {
            return Vec::new();
        }
        let up_to = |end| own.partition_point(|own| own.range.start < end);
        let own = own[up_to(within.start)..up_to(within.end)].iter().map(|Match { token, range }| Match {
            token: *token,
            range: range.start - within.start..range.end - within.start,
        });
        let part = slice(text, within.clone());
        self.cut(&part, self.find_as_is(part.get(), is_reserved, &own.collect::<Vec<_>>()))
    }

    fn find_as_is(&self, text: &str, is_reserved: &[bool], own: &[Match]) -> Vec<Match> {
        let is_free = |found: &Match| !is_reserved[found.token];
        let mut found = Vec::new();
        let mut begin = 0;
        for token in own {
            found.extend(self.as_is.find(text, begin..token.range.start, is_free));
            begin = token.range.end;
            found.push(token.clone());
        }
        found.extend(self.as_is.find(text, begin..text.len(), is_free));
        found
    }

    /// By the tokens' own rules for what stands around them.
    fn cut(&self, piece: &NormalizedString, found: Vec<Match>) -> Cuts {
        let text = piece.get();
        let mut cuts = Vec::with_capacity(2 * found.len() + 1);
        let mut begin = 0;
        for Match { token, range } in found {
            let (id, token) = &self.tokens[token];
            let (before, after) = (&text[..range.start], &text[range.end..]);
            let touches_word =
                || before.chars().next_back().is_some_and(is_word) || after.chars().next().is_some_and(is_word);
            if token.single_word && touches_word() {
                continue;
            }
            let start = if token.lstrip { before.trim_end().len().max(begin) } else { range.start };
            let end = if token.rstrip { text.len() - after.trim_start().len() } else { range.end };
            if begin < start {
                cuts.push((slice(piece, begin..start), None));
            }
            let value = text[start..end].to_string();
            cuts.push((slice(piece, start..end), Some(vec![Token::new(*id, value, (0, end - start))])));
            begin = end;
        }
        if begin < text.len() {
            cuts.push((slice(piece, begin..text.len()), None));
        }
        cuts
    }
}

/// What stands before and after the name in a token.
fn frame(token: &str) -> Option<(&str, &str)> {
    let begin = &token[..token.find(char::is_alphanumeric)?];
    let end = token.trim_end_matches(|c: char| !c.is_alphanumeric());
    let end = &token[end.len()..];
    (!begin.is_empty() && !end.is_empty()).then_some((begin, end))
}

fn slice(text: &NormalizedString, range: Range<usize>) -> NormalizedString {
    text.slice(Offsets::Normalized(range)).expect("whole characters")
}

fn is_word(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w").expect("a valid expression"));
    WORD.is_match(c.encode_utf8(&mut [0; 4]))
}

pub fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// Finds the longest token that begins earliest.
struct Finder {
    automaton: AhoCorasick,
    /// [patterns]
    tokens: Vec<usize>,
}

impl Finder {
    fn new(mut patterns: Vec<(usize, String)>) -> Outcome<Self> {
        patterns.retain(|(_, pattern)| !pattern.is_empty());
        let (tokens, patterns): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .map_err(Failure::at("added_tokens"))?;
        Ok(Finder { automaton, tokens })
    }

    /// What does not count hides nothing that begins later.
    fn find<'a>(
        &'a self,
        text: &'a str,
        within: Range<usize>,
        counts: impl Fn(&Match) -> bool + 'a,
    ) -> impl Iterator<Item = Match> + 'a {
        let mut begin = within.start;
        std::iter::from_fn(move || loop {
            let found = self.automaton.find(Input::new(text).range(begin..within.end))?;
            let found = Match { token: self.tokens[found.pattern()], range: found.range() };
            if counts(&found) {
                begin = found.range.end;
                return Some(found);
            }
            begin = found.range.start + first_length(&text[found.range.clone()]);
        })
    }
}

//! The tokens that belong to a template: what it writes with them is theirs, the same text in its input is text. All
//! special tokens do, whether it writes them or not, and all others that it can write, for many a vocabulary does not
//! flag its turn tokens.

use std::collections::BTreeSet;

use crate::added_tokens::{first_length, AddedTokens, Match};

pub struct ReservedTokens<'a> {
    added: &'a AddedTokens,
    /// [added tokens]
    is_reserved: Vec<bool>,
    /// What they begin and end with: brackets, mostly. Letters are left out, for names are made of them.
    edges: Vec<char>,
}

impl<'a> ReservedTokens<'a> {
    /// `literals` are the texts that stand in the template.
    pub fn new(added: &'a AddedTokens, literals: &[String]) -> Self {
        let mut is_reserved: Vec<bool> = added.tokens().map(|token| token.special).collect();
        // Blanks are no turn tokens, and templates hold many.
        let is_visible: Vec<bool> = added.tokens().map(|token| !token.content.trim().is_empty()).collect();
        for found in literals.iter().flat_map(|literal| added.find_all(literal)) {
            is_reserved[found.token] |= is_visible[found.token];
        }
        // '<|' + message.role + '|>'
        for ((begin, end), tokens) in added.frames() {
            let is_begun = literals.iter().any(|literal| literal.ends_with(begin));
            if is_begun && literals.iter().any(|literal| literal.starts_with(end)) {
                tokens.iter().for_each(|token| is_reserved[*token] = true);
            }
        }
        let mut reserved = ReservedTokens { added, is_reserved, edges: Vec::new() };
        let texts = reserved.texts();
        let ends = texts.flat_map(|text| text.chars().next().into_iter().chain(text.chars().next_back()));
        let edges: BTreeSet<char> = ends.filter(|c| !c.is_alphanumeric()).collect();
        reserved.edges = edges.into_iter().collect();
        reserved
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> + '_ {
        let all = self.added.tokens().zip(&self.is_reserved);
        all.filter(|(_, is_reserved)| **is_reserved).map(|(token, _)| token.content.as_str())
    }

    pub fn is_reserved(&self) -> &[bool] {
        &self.is_reserved
    }

    /// Where they stand in `text`.
    pub fn find(&self, text: &str) -> Vec<Match> {
        let mut found = self.added.find(text);
        found.retain(|found| self.is_reserved[found.token]);
        found
    }

    /// Whether `text` could hold one or an end of one.
    pub fn touches(&self, text: &str) -> bool {
        text.chars().any(|c| self.edges.contains(&c)) || self.find_all(text).next().is_some()
    }

    /// Every character that one of them can begin with, or end with if it is no letter.
    pub fn ends(&self) -> impl Iterator<Item = char> + '_ {
        self.texts().filter_map(|text| text.chars().next()).chain(self.edges.iter().copied())
    }

    /// `text` with other characters, by `change`, wherever one of them begins or could begin or end: none of it can be
    /// a part of one any more, whatever it is joined with.
    pub fn break_ends(&self, text: &str, change: impl Fn(char) -> char) -> String {
        let broken = self.break_whole(text, &change);
        broken.chars().map(|c| if self.edges.contains(&c) { change(c) } else { c }).collect()
    }

    /// `text` with another character, by `change`, wherever one of them begins.
    pub fn break_whole(&self, text: &str, change: impl Fn(char) -> char) -> String {
        let mut places: Vec<usize> = self.find_all(text).map(|found| found.range.start).collect();
        places.sort_unstable();
        places.dedup();
        let mut broken = String::with_capacity(text.len() + 4 * places.len());
        let mut begin = 0;
        for place in places {
            broken.push_str(&text[begin..place]);
            broken.extend(text[place..].chars().next().map(&change));
            begin = place + first_length(&text[place..]);
        }
        broken.push_str(&text[begin..]);
        broken
    }

    fn find_all<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Match> + 't {
        self.added.find_all(text).filter(|found| self.is_reserved[found.token])
    }
}

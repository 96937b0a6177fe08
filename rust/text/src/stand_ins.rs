//! Characters that take the place of others for a while, one for one, so that a text keeps its length. They are rare
//! but common in kind: letters that print as they are and change with nothing.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use crate::added_tokens::Match;
use crate::failure::{Failure, Outcome};

/// CJK Unified Ideographs Extension B.
const CANDIDATES: RangeInclusive<char> = '\u{20000}'..='\u{2A6DF}';

pub struct StandIns {
    of: HashMap<char, char>,
    originals: HashMap<char, char>,
}

impl StandIns {
    /// For `characters`; none of them is among `used`.
    pub fn new(characters: impl Iterator<Item = char>, used: &HashSet<char>) -> Outcome<Self> {
        let mut unused = CANDIDATES.filter(|c| !used.contains(c));
        let mut of = HashMap::new();
        for c in characters {
            if let Entry::Vacant(entry) = of.entry(c) {
                let all_used = || Failure::new("messages: hold every character of CJK Extension B");
                entry.insert(unused.next().ok_or_else(all_used)?);
            }
        }
        let originals = of.iter().map(|(original, stand_in)| (*stand_in, *original)).collect();
        Ok(StandIns { of, originals })
    }

    pub fn is_candidate(c: &char) -> bool {
        CANDIDATES.contains(c)
    }

    pub fn of(&self, c: char) -> char {
        self.of.get(&c).copied().unwrap_or(c)
    }

    pub fn contain(&self, c: char) -> bool {
        self.originals.contains_key(&c)
    }

    /// The text with the originals back.
    pub fn undo(&self, text: &str) -> String {
        text.chars().map(|c| self.originals.get(&c).copied().unwrap_or(c)).collect()
    }

    /// The same, moving `found`, which holds no stand-in, along.
    pub fn undo_around(&self, text: &str, found: &mut [Match]) -> String {
        let mut undone = String::with_capacity(text.len());
        let mut begin = 0;
        for Match { range, .. } in found {
            undone += &self.undo(&text[begin..range.start]);
            begin = range.end;
            let start = undone.len();
            undone += &text[range.clone()];
            *range = start..undone.len();
        }
        undone + &self.undo(&text[begin..])
    }
}

//! What a model has sampled comes back in a chat as text, which many ids may spell. Where it does, its own ids stand for
//! it: by them the model's memory of the dialogue is found again. They never say more than the text: each has to spell
//! what stands there, and the template's own tokens are not theirs.

use std::ops::Range;

use crate::added_tokens::Match;
use crate::tokenizer::Tokenizer;

/// Ids that may spell the text from `begin` on.
pub struct Sampled<'a> {
    pub begin: usize,
    pub ids: &'a [i32],
}

/// A part of a text, whole characters of it, and the ids that stand for it.
pub struct Spelled {
    pub range: Range<usize>,
    pub ids: Vec<u32>,
}

pub struct Speller<'a> {
    pub tokenizer: &'a Tokenizer,
    pub is_reserved: &'a [bool],
    pub text: &'a str,
    /// Where the template's reserved tokens stand, in order.
    pub own: &'a [Match],
}

impl Speller<'_> {
    /// In order; what begins within another is left out.
    pub fn spell_all(&self, sampled: &[Sampled]) -> Vec<Spelled> {
        let mut all: Vec<Spelled> = Vec::new();
        for one in sampled {
            let end = all.last().map_or(0, |last| last.range.end);
            if one.begin >= end && self.text.is_char_boundary(one.begin) {
                self.spell(one, &mut all);
            }
        }
        all
    }

    /// As many of the ids as spell what stands there. A reserved one, such as a mark around a call, has to be the
    /// template's own in the same place, and is left to it.
    fn spell(&self, Sampled { begin, ids }: &Sampled, all: &mut Vec<Spelled>) {
        let (mut at, mut ids) = (*begin, *ids);
        loop {
            if let Some(run) = self.spell_run(at, ids) {
                (at, ids) = (run.range.end, &ids[run.ids.len()..]);
                all.push(run);
            }
            let own = &self.own[self.own.partition_point(|own| own.range.end <= at)..];
            match (own.first(), ids.split_first()) {
                (Some(own), Some((id, rest))) if own.range.start == at && self.is_token(*id, own) => {
                    (at, ids) = (own.range.end, rest);
                }
                _ => return,
            }
        }
    }

    fn is_token(&self, id: i32, own: &Match) -> bool {
        u32::try_from(id).is_ok_and(|id| self.tokenizer.added().index_of(id) == Some(own.token))
    }

    /// The ids up to a reserved one.
    fn spell_run(&self, begin: usize, ids: &[i32]) -> Option<Spelled> {
        let next = self.own.partition_point(|own| own.range.end <= begin);
        let limit = self.own.get(next).map_or(self.text.len(), |own| own.range.start);
        let mut rest = self.text.as_bytes().get(begin..limit)?;
        let (mut count, mut end) = (0, begin);
        for (i, id) in ids.iter().enumerate() {
            let Some(bytes) = self.tokenizer.text_bytes(*id, self.is_reserved) else { break };
            let without_space = || bytes.strip_prefix(b" ").filter(|_| i == 0 && self.gets_space(begin));
            let left = rest.strip_prefix(bytes).or_else(|| rest.strip_prefix(without_space()?));
            let Some(left) = left else { break };
            rest = left;
            if self.text.is_char_boundary(limit - rest.len()) {
                (count, end) = (i + 1, limit - rest.len());
            }
        }
        // A text that begins with a space that is not there would put one behind them.
        let is_joined = end == limit || !self.tokenizer.begins_pieces_with_space();
        let ids = ids[..count].iter().map(|id| *id as u32).collect();
        (end > begin && is_joined).then_some(Spelled { range: begin..end, ids })
    }

    /// Whether the tokenizer would begin what stands at `begin` with a space that is not in the text.
    fn gets_space(&self, begin: usize) -> bool {
        let before = &self.own[..self.own.partition_point(|own| own.range.end <= begin)];
        let piece = before.last().map_or(0, |own| self.tokenizer.added().end_of(own, self.text).min(begin));
        self.tokenizer.begins_pieces_with_space() && piece == begin
    }
}

//! A tokenizer that is ready to use: `tokenizers`' own pipeline, with the choice per call whether the texts of special
//! tokens are read as those tokens. Immutable.

use tokenizers::normalizer::Range as Offsets;
use tokenizers::{
    AddedVocabulary, Encoding, Model, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::added_tokens::{AddedTokens, Match};
use crate::failure::{Failure, Outcome};
use crate::sampled::{Sampled, Speller};
use crate::token_table::TokenTable;
use crate::vocabulary::{self, Vocabulary};
use crate::{plain_model, tokenizer_json};

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same added tokens, but special ones are not looked for.
    plain: AddedVocabulary,
    added: AddedTokens,
    table: TokenTable,
    begins_pieces_with_space: bool,
}

impl Tokenizer {
    pub fn from_json(json: &str) -> Outcome<Self> {
        Self::new(tokenizer_json::read(json)?)
    }

    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Outcome<Self> {
        Self::new(vocabulary::build(vocabulary)?)
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Outcome<Self> {
        // Lengths are the callers' business.
        inner.with_truncation(None).map_err(Failure::new)?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(false);
        let mut plain = inner.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let (added, table) = (AddedTokens::new(&inner)?, TokenTable::new(&inner)?);
        if let Some(model) = plain_model::without_marks(inner.get_model(), &added)? {
            inner.with_model(model);
        }
        let begins_pieces_with_space = begins_pieces_with_space(&inner)?;
        let tokenizer = Tokenizer { inner, plain, added, table, begins_pieces_with_space };
        tokenizer.check_frame()?;
        Ok(tokenizer)
    }

    /// What the post-processor puts around texts must be in the vocabulary, too.
    fn check_frame(&self) -> Outcome<()> {
        let size = self.table.special.len();
        for pair in [None, Some("a")] {
            let encoding = self.encode("a", pair, true, false)?;
            if let Some(id) = encoding.get_ids().iter().find(|id| **id as usize >= size) {
                return Err(Failure::new(format!("post_processor: id {id} is outside the vocabulary of {size}")));
            }
        }
        Ok(())
    }

    pub fn table(&self) -> &TokenTable {
        &self.table
    }

    pub fn added(&self) -> &AddedTokens {
        &self.added
    }

    /// Whether what follows a special token begins with a space that is not in the text.
    pub fn begins_pieces_with_space(&self) -> bool {
        self.begins_pieces_with_space
    }

    /// What the id adds to a text, if it is no reserved token and adds anything.
    pub fn text_bytes(&self, id: i32, is_reserved: &[bool]) -> Option<&[u8]> {
        let id = u32::try_from(id).ok().filter(|id| (*id as usize) < self.table.special.len())?;
        let is_reserved = self.added.index_of(id).is_some_and(|token| is_reserved[token]);
        let offset = |id: usize| self.table.offsets[id] as usize;
        let bytes = &self.table.bytes[offset(id as usize)..offset(id as usize + 1)];
        (!is_reserved && !bytes.is_empty()).then_some(bytes)
    }

    pub fn id(&self, token: &str) -> Option<i32> {
        // What `plain_model` took out has no text.
        self.inner.token_to_id(token).filter(|_| !token.is_empty()).map(|id| id as i32)
    }

    pub fn encode(&self, text: &str, pair: Option<&str>, add_special: bool, parse_special: bool) -> Outcome<Encoding> {
        let added = if parse_special { self.inner.get_added_vocabulary() } else { &self.plain };
        // Only offsets make the crate keep type ids.
        let offsets = if pair.is_some() { OffsetType::Byte } else { OffsetType::None };
        let first = self.encode_one(added, text, 0, offsets)?;
        let second = pair.map(|text| self.encode_one(added, text, 1, offsets)).transpose()?;
        self.inner.post_process(first, second, add_special).map_err(Failure::new)
    }

    /// Encodes a text in which reserved tokens are read as such where they are among `own`, and nowhere else, and in
    /// which what was `sampled` keeps its ids. Nothing is put around the text.
    pub fn encode_reserved(
        &self,
        text: &str,
        is_reserved: &[bool],
        own: &[Match],
        sampled: &[Sampled],
    ) -> Outcome<Vec<u32>> {
        let spelled = Speller { tokenizer: self, is_reserved, text, own }.spell_all(sampled);
        let normalizer = self.inner.get_normalizer();
        let pieces = self.added.extract_and_normalize(normalizer, text, is_reserved, own, &spelled)?;
        let encoding = self.encode_pieces(pieces, 0, OffsetType::None)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn encode_one(&self, added: &AddedVocabulary, text: &str, type_id: u32, offsets: OffsetType) -> Outcome<Encoding> {
        let pieces = added.extract_and_normalize(self.inner.get_normalizer(), text);
        self.encode_pieces(pieces, type_id, offsets)
    }

    fn encode_pieces(
        &self,
        mut pieces: tokenizers::PreTokenizedString,
        type_id: u32,
        offsets: OffsetType,
    ) -> Outcome<Encoding> {
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(Failure::new)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut pieces, None).map_err(Failure::new)?;
        pieces.into_encoding(None, type_id, offsets).map_err(Failure::new)
    }
}

/// Some do so at the beginning of every piece of a text, some at that of the text alone.
fn begins_pieces_with_space(tokenizer: &tokenizers::Tokenizer) -> Outcome<bool> {
    let mut pieces = PreTokenizedString::from("aa");
    let halves = |text: &tokenizers::NormalizedString| [0..1, 1..2].map(|half| text.slice(Offsets::Original(half)));
    pieces.split(|_, text| Ok(halves(&text).into_iter().flatten().collect::<Vec<_>>())).map_err(Failure::new)?;
    if let Some(normalizer) = tokenizer.get_normalizer() {
        pieces.normalize(|piece| normalizer.normalize(piece)).map_err(Failure::new)?;
    }
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces).map_err(Failure::new)?;
    }
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let added = splits.iter().flat_map(|(text, ..)| text.chars()).filter(|c| *c != 'a');
    Ok(added.count() > 1)
}

//! A tokenizer that is ready to use: `tokenizers`' own pipeline, with the choice per call whether the texts of special
//! tokens are read as those tokens. Immutable.

use tokenizers::{AddedVocabulary, Encoding, Model, OffsetType, PreTokenizer};

use crate::added_tokens::{AddedTokens, Match};
use crate::failure::{Failure, Outcome};
use crate::token_table::TokenTable;
use crate::vocabulary::{self, Vocabulary};
use crate::{plain_model, tokenizer_json};

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same added tokens, but special ones are not looked for.
    plain: AddedVocabulary,
    added: AddedTokens,
    table: TokenTable,
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
        let tokenizer = Tokenizer { inner, plain, added, table };
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

    /// Encodes a text in which reserved tokens are read as such where they are among `own`, and nowhere else. Nothing
    /// is put around the text.
    pub fn encode_reserved(&self, text: &str, is_reserved: &[bool], own: &[Match]) -> Outcome<Vec<u32>> {
        let pieces = self.added.extract_and_normalize(self.inner.get_normalizer(), text, is_reserved, own)?;
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

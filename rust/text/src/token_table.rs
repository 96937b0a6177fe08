//! id → bytes: what each token adds to a text, by the rules of the tokenizer's decoder.

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder, Model};

use crate::failure::{Failure, Outcome};

pub struct TokenTable {
    /// [ids + 1]
    pub offsets: Vec<u32>,
    pub bytes: Vec<u8>,
    /// [ids]
    pub special: Vec<u8>,
    /// The first space of a text stands for its beginning and is left out.
    pub drops_first_space: bool,
}

impl TokenTable {
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Outcome<Self> {
        let rules = Rules::new(tokenizer.get_decoder())?;
        let mut table = TokenTable {
            offsets: vec![0],
            bytes: Vec::new(),
            special: Vec::new(),
            drops_first_space: rules.drops_first_space,
        };
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        for id in 0..count_ids(tokenizer)? {
            let added = added.get(&id);
            if let Some(token) = added {
                table.bytes.extend(rules.bytes(&token.content, true)?);
            } else if let Some(token) = tokenizer.get_model().id_to_token(id) {
                table.bytes.extend(rules.bytes(&token, false)?);
            }
            let end = u32::try_from(table.bytes.len()).map_err(Failure::at("vocabulary"))?;
            table.offsets.push(end);
            table.special.push(u8::from(added.is_some_and(|token| token.special)));
        }
        Ok(table)
    }
}

/// One more than the largest id. Ids are few and mostly in use; a wild one would make the table, and all that is as
/// wide as it, huge.
fn count_ids(tokenizer: &tokenizers::Tokenizer) -> Outcome<u32> {
    let vocabulary = tokenizer.get_vocab(true);
    let limit = 2 * vocabulary.len() as u64 + 256;
    let mut names = HashMap::with_capacity(vocabulary.len());
    let mut count = 0;
    for (token, id) in &vocabulary {
        if u64::from(*id) >= limit {
            let size = vocabulary.len();
            return Err(Failure::new(format!("{token:?} has id {id}, far outside a vocabulary of {size} tokens")));
        }
        if let Some(other) = names.insert(*id, token) {
            return Err(Failure::new(format!("id {id} is both {other:?} and {token:?}")));
        }
        count = count.max(id + 1);
    }
    Ok(count)
}

/// A decoder, taken apart into what it does to one token and what it does to a text.
#[derive(Default)]
struct Rules {
    per_token: Vec<DecoderWrapper>,
    byte_level: HashMap<char, u8>,
    byte_fallback: bool,
    word_piece_prefix: Option<String>,
    drops_first_space: bool,
}

impl Rules {
    fn new(decoder: Option<&DecoderWrapper>) -> Outcome<Self> {
        let mut rules = Rules::default();
        if let Some(decoder) = decoder {
            rules.add(decoder)?;
        }
        Ok(rules)
    }

    fn add(&mut self, decoder: &DecoderWrapper) -> Outcome<()> {
        match decoder {
            DecoderWrapper::Sequence(all) => return all.get_decoders().iter().try_for_each(|one| self.add(one)),
            DecoderWrapper::ByteLevel(_) => self.byte_level = byte_level_alphabet(),
            DecoderWrapper::ByteFallback(_) => self.byte_fallback = true,
            DecoderWrapper::Fuse(_) => {}
            DecoderWrapper::Strip(strip) if strip.content == ' ' && strip.start <= 1 && strip.stop == 0 => {
                self.drops_first_space |= strip.start == 1
            }
            DecoderWrapper::WordPiece(pieces) => {
                self.word_piece_prefix = Some(pieces.prefix.clone());
                self.drops_first_space = true;
                self.per_token.push(decoder.clone());
            }
            DecoderWrapper::Metaspace(metaspace) => {
                self.drops_first_space = metaspace.prepend_scheme != PrependScheme::Never;
                self.per_token.push(decoder.clone());
            }
            DecoderWrapper::BPE(_) | DecoderWrapper::Replace(_) => self.per_token.push(decoder.clone()),
            other => return Err(Failure::new(format!("decoder: {other:?} is not supported"))),
        }
        Ok(())
    }

    fn bytes(&self, token: &str, is_added: bool) -> Outcome<Vec<u8>> {
        if self.byte_fallback && !is_added {
            if let Some(byte) = fallback_byte(token) {
                return Ok(vec![byte]);
            }
        }
        let mut text = token.to_string();
        for decoder in &self.per_token {
            // Decoders leave out what begins a text: with a token before, this one is in the middle.
            let chain = decoder.decode_chain(vec![String::new(), text]).map_err(Failure::at("decoder"))?;
            text = chain.concat();
        }
        if !self.byte_level.is_empty() && !is_added {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| self.byte_level.get(&c).copied()).collect();
            return Ok(bytes.unwrap_or_else(|| text.into_bytes()));
        }
        Ok(text.into_bytes())
    }
}

/// "<0x0A>" → 10
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// GPT-2's letters for bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on.
/// Source: github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            let is_printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
            let letter = if is_printable { u32::from(byte) } else { next };
            next += u32::from(!is_printable);
            (char::from_u32(letter).expect("below the surrogates"), byte)
        })
        .collect()
}

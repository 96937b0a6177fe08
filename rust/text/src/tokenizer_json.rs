//! tokenizer.json, which `tokenizers` reads; here is what it does not look at.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokenizers::Tokenizer;

use crate::failure::{Failure, Outcome};

/// Unigram's pieces and added tokens become tries with a node a byte, and the former a level of the stack a byte.
const MOST_TOKEN_BYTES: usize = 1024;

pub fn read(json: &str) -> Outcome<Tokenizer> {
    let file: File = serde_json::from_str(json).map_err(Failure::new)?;
    file.check_sizes()?;
    let tokenizer = json.parse().map_err(Failure::new)?;
    file.check_added_ids(&tokenizer)?;
    Ok(tokenizer)
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Vocabulary,
}

/// The size of the longest piece, where there is a list of them.
#[derive(Default)]
struct Vocabulary {
    longest: usize,
}

impl File {
    fn check_sizes(&self) -> Outcome<()> {
        let added = self.added_tokens.iter().map(|token| token.content.len()).max().unwrap_or_default();
        for (place, size) in [("added_tokens", added), ("model.vocab", self.model.vocab.longest)] {
            if size > MOST_TOKEN_BYTES {
                let reason = format!("{place}: a token of {size} bytes is over the limit of {MOST_TOKEN_BYTES}");
                return Err(Failure::new(reason));
            }
        }
        Ok(())
    }

    /// `tokenizers` gives added tokens ids of its own and only warns when the file says others.
    fn check_added_ids(&self, tokenizer: &Tokenizer) -> Outcome<()> {
        let mut contents = HashMap::new();
        for Added { id, content } in &self.added_tokens {
            let got = tokenizer.token_to_id(content).map(u64::from);
            if got != Some(*id) {
                let got = got.map_or("none".to_string(), |id| id.to_string());
                let reason = format!("added_tokens: {content:?} says id {id}, but the vocabulary makes it {got}");
                return Err(Failure::new(reason));
            }
            if let Some(other) = contents.insert(*id, content) {
                return Err(Failure::new(format!("added_tokens: id {id} is both {other:?} and {content:?}")));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vocabulary;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a vocabulary")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<Vocabulary, A::Error> {
                let mut vocabulary = Vocabulary::default();
                while let Some((text, _)) = pieces.next_element::<(Cow<str>, IgnoredAny)>()? {
                    vocabulary.longest = vocabulary.longest.max(text.len());
                }
                Ok(vocabulary)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut ids: A) -> Result<Vocabulary, A::Error> {
                while ids.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Vocabulary::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

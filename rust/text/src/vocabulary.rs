//! A tokenizer from a GGUF file's vocabulary, by the builders of `tokenizers`. A kind of vocabulary is a line of `build`.

use std::collections::HashMap;
use std::hash::BuildHasher;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::failure::{Failure, Outcome};
use crate::{pre_tokenizers, sentencepiece};

pub struct Vocabulary<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    pub token_types: &'a [i32],
    pub scores: &'a [f32],
    pub merges: Vec<&'a str>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
    pub marks_take_blanks: bool,
}

pub const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
pub const UNUSED: i32 = 5;

/// Where tokens take the blanks behind them, these do not.
const BLANKS_STAY_BEHIND: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

pub fn build(vocabulary: &Vocabulary) -> Outcome<Tokenizer> {
    let mut tokenizer = match vocabulary.model {
        "gpt2" => build_byte_level(vocabulary),
        "llama" => sentencepiece::build(vocabulary),
        other => {
            let reason = format!("tokenizer.ggml.model: {other:?} is not supported; supported: \"gpt2\", \"llama\"");
            Err(Failure::new(reason))
        }
    }?;
    tokenizer.with_post_processor(frame(vocabulary)?);
    tokenizer.add_tokens(added_tokens(vocabulary)).map_err(Failure::at("tokenizer.ggml.token_type"))?;
    Ok(tokenizer)
}

fn build_byte_level(vocabulary: &Vocabulary) -> Outcome<Tokenizer> {
    let pre_tokenizer = pre_tokenizers::find(vocabulary.pre)?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids()?, merges(&vocabulary.merges)?)
        .ignore_merges(pre_tokenizer.prefers_whole_pieces)
        .build()
        .map_err(Failure::at("tokenizer.ggml.merges"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer.build()?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

impl Vocabulary<'_> {
    pub fn ids<S: BuildHasher + Default>(&self) -> Outcome<HashMap<String, u32, S>> {
        let mut ids = HashMap::with_capacity_and_hasher(self.tokens.len(), S::default());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(other) = ids.insert(token.to_string(), id as u32) {
                return Err(Failure::new(format!("tokenizer.ggml.tokens: {token:?} is both id {other} and id {id}")));
            }
        }
        Ok(ids)
    }
}

fn merges(lines: &[&str]) -> Outcome<Vec<(String, String)>> {
    let split = |(i, line): (usize, &&str)| match line.split_once(' ') {
        Some((left, right)) => Ok((left.to_string(), right.to_string())),
        None => Err(Failure::new(format!("tokenizer.ggml.merges[{i}]: {line:?} is not two tokens"))),
    };
    lines.iter().enumerate().map(split).collect()
}

/// Control tokens, and the unknown one, are special. User-defined ones are not: they are plain text that is always one
/// token, such as runs of line ends.
fn added_tokens(vocabulary: &Vocabulary) -> Vec<AddedToken> {
    let takes_blanks = |token: &str| vocabulary.marks_take_blanks && !BLANKS_STAY_BEHIND.contains(&token);
    let tokens = vocabulary.tokens.iter().zip(vocabulary.token_types);
    tokens
        .filter(|(_, kind)| matches!(**kind, CONTROL | UNKNOWN | USER_DEFINED))
        .map(|(token, kind)| {
            AddedToken::from(*token, *kind != USER_DEFINED).normalized(false).rstrip(takes_blanks(token))
        })
        .collect()
}

/// What add_special_tokens puts around a text.
fn frame(vocabulary: &Vocabulary) -> Outcome<Option<TemplateProcessing>> {
    let token = |wanted: bool, id: Option<u32>, key: &str| -> Outcome<Option<(String, u32)>> {
        if !wanted {
            return Ok(None);
        }
        let id = id.ok_or_else(|| Failure::new(format!("{key}: is missing, but the file asks to add it")))?;
        let text = vocabulary.tokens.get(id as usize).ok_or_else(|| {
            Failure::new(format!("{key}: {id} is outside the vocabulary of {}", vocabulary.tokens.len()))
        })?;
        Ok(Some((text.to_string(), id)))
    };
    let bos = token(vocabulary.add_bos, vocabulary.bos, "tokenizer.ggml.bos_token_id")?;
    let eos = token(vocabulary.add_eos, vocabulary.eos, "tokenizer.ggml.eos_token_id")?;
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    let around = |sequence: &str, kind: u32| -> Vec<String> {
        let piece = |token: &(String, u32)| format!("{}:{kind}", token.0);
        let mut pieces: Vec<String> = bos.iter().map(piece).collect();
        pieces.push(format!("{sequence}:{kind}"));
        pieces.extend(eos.iter().map(piece));
        pieces
    };
    let single = around("$A", 0);
    let pair = [single.clone(), around("$B", 1)].concat();
    let template = TemplateProcessing::builder()
        .try_single(single)
        .and_then(|builder| builder.try_pair(pair))
        .map_err(Failure::at("tokenizer.ggml.add_bos_token"))?
        .special_tokens(bos.iter().chain(eos.iter()).cloned().collect::<Vec<_>>())
        .build()
        .map_err(Failure::at("tokenizer.ggml.add_bos_token"))?;
    Ok(Some(template))
}

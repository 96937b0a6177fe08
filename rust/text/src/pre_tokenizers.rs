//! Ways to cut text before byte-level BPE, by the names that GGUF files give them (tokenizer.ggml.pre). A name is one
//! line of `PRE_TOKENIZERS`.
//! Source: llama.cpp, src/llama-vocab.cpp, and the tokenizer.json files that it took the names for.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::SplitDelimiterBehavior;

use crate::failure::{Failure, Outcome};

pub struct PreTokenizer {
    name: &'static str,
    cuts: &'static [Cut],
    /// A piece that is a token as a whole is that token, whatever the merges would make of it.
    pub prefers_whole_pieces: bool,
}

enum Cut {
    /// At every match of an expression.
    At(&'static str),
    /// Digit by digit.
    Digits,
    /// Into GPT-2's words.
    Words,
}

const LLAMA_3: &[Cut] = &[Cut::At(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
))];
const QWEN_2: &[Cut] = &[Cut::At(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
))];
const DEFAULT: &[Cut] = &[Cut::At(r"[\p{P}$+<=>^~|]+"), Cut::Words, Cut::At(r"\p{N}+"), Cut::At("[0-9][0-9][0-9]")];

const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer { name: "default", cuts: DEFAULT, prefers_whole_pieces: false },
    PreTokenizer { name: "gpt-2", cuts: &[Cut::Words], prefers_whole_pieces: false },
    PreTokenizer { name: "smollm", cuts: &[Cut::Digits, Cut::Words], prefers_whole_pieces: false },
    PreTokenizer { name: "llama-bpe", cuts: LLAMA_3, prefers_whole_pieces: true },
    PreTokenizer { name: "llama3", cuts: LLAMA_3, prefers_whole_pieces: true },
    PreTokenizer { name: "llama-v3", cuts: LLAMA_3, prefers_whole_pieces: true },
    PreTokenizer { name: "qwen2", cuts: QWEN_2, prefers_whole_pieces: false },
    PreTokenizer { name: "deepseek-r1-qwen", cuts: QWEN_2, prefers_whole_pieces: false },
];

pub fn find(name: &str) -> Outcome<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<_> = PRE_TOKENIZERS.iter().map(|known| format!("{:?}", known.name)).collect();
        Failure::new(format!("tokenizer.ggml.pre: {name:?} is not supported; supported: {}", known.join(", ")))
    })
}

impl PreTokenizer {
    /// The cuts, one within the pieces of the other, and at last the pieces' bytes as letters.
    pub fn build(&self) -> Outcome<PreTokenizerWrapper> {
        let cuts: Outcome<Vec<_>> = self.cuts.iter().map(Cut::build).collect();
        let mut steps = cuts?;
        steps.push(ByteLevel::new(false, true, false).into());
        Ok(Sequence::new(steps).into())
    }
}

impl Cut {
    fn build(&self) -> Outcome<PreTokenizerWrapper> {
        match self {
            Cut::At(expression) => at(expression),
            Cut::Digits => Ok(Digits::new(true).into()),
            Cut::Words => at(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        }
    }
}

/// Cuts at every match of an expression.
pub fn at(expression: &str) -> Outcome<PreTokenizerWrapper> {
    let pattern = SplitPattern::Regex(expression.to_string());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(Failure::new)?;
    Ok(split.into())
}

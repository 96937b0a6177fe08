//! SentencePiece's BPE as GGUF files have it: tokens with scores and no list of merges. Of all neighbours that make a
//! token together those whose token has the best score are joined first, and of equals the leftmost; what is no token
//! by itself is bytes. That is byte-pair encoding with a merge for each way to put a token together, ranked by score.
//! Source: llama.cpp, src/llama-vocab.cpp, llm_tokenizer_spm.

use std::collections::HashMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer};

use crate::failure::{Failure, Outcome};
use crate::pre_tokenizers;
use crate::vocabulary::{Vocabulary, NORMAL, UNUSED};

/// What stands for a space.
const SPACE: &str = "\u{2581}";
/// A vocabulary of SentencePiece's has tokens of up to 93 bytes, and two merges a token. More of both would be a small
/// file that takes much memory.
const MOST_TOKEN_BYTES: usize = 256;
const MOST_MERGES_PER_TOKEN: usize = 16;

/// The model with all that stands around it but added tokens and the frame.
pub fn build(vocabulary: &Vocabulary) -> Outcome<Tokenizer> {
    let ids = vocabulary.ids()?;
    for byte in 0..=255u8 {
        let token = format!("<0x{byte:02X}>");
        if !ids.contains_key(&token) {
            return Err(Failure::new(format!(
                "tokenizer.ggml.tokens: there is no {token:?}, and every byte needs one"
            )));
        }
    }
    let model = BPE::builder()
        .vocab_and_merges(ids, merges(vocabulary)?)
        .byte_fallback(true)
        .build()
        .map_err(Failure::at("tokenizer.ggml.tokens"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(normalizer(vocabulary.add_space_prefix)?)).map_err(Failure::new)?;
    tokenizer.with_decoder(Some(decoder(vocabulary.add_space_prefix)?));
    if mergeable_tokens(vocabulary).all(|(_, token)| is_word(token)) {
        tokenizer.with_pre_tokenizer(Some(pre_tokenizers::at(&format!("{SPACE}*[^{SPACE}]+|{SPACE}+"))?));
    }
    Ok(tokenizer)
}

fn mergeable_tokens<'a>(vocabulary: &'a Vocabulary) -> impl Iterator<Item = (usize, &'a str)> {
    let tokens = vocabulary.tokens.iter().copied().enumerate();
    tokens.filter(|(id, _)| matches!(vocabulary.token_types[*id], NORMAL | UNUSED))
}

/// Whether a token has spaces at its beginning only. Where all have, nothing is joined across the beginning of a word,
/// so words may be cut apart; the model remembers what it made of them.
fn is_word(token: &str) -> bool {
    !token.trim_start_matches(SPACE).contains(SPACE)
}

/// Best first. Of one score the longest left part comes first, so that a run of blanks, whose tokens all have the same,
/// grows from the left.
fn merges(vocabulary: &Vocabulary) -> Outcome<Vec<(String, String)>> {
    let scores = vocabulary.scores;
    if scores.len() != vocabulary.tokens.len() {
        let (scores, tokens) = (scores.len(), vocabulary.tokens.len());
        return Err(Failure::new(format!("tokenizer.ggml.scores: {scores} entries for {tokens} tokens")));
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(Failure::new(format!("tokenizer.ggml.scores[{id}]: is not a number")));
    }
    let mut mergeable: HashMap<&str, f32> = HashMap::with_capacity(vocabulary.tokens.len());
    for (id, token) in mergeable_tokens(vocabulary) {
        if token.len() > MOST_TOKEN_BYTES {
            let (size, limit) = (token.len(), MOST_TOKEN_BYTES);
            let reason = format!("tokenizer.ggml.tokens[{id}]: {size} bytes are over the limit of {limit}");
            return Err(Failure::new(reason));
        }
        mergeable.insert(token, scores[id]);
    }
    let limit = MOST_MERGES_PER_TOKEN * mergeable.len();
    let mut merges: Vec<(f32, &str, &str)> = Vec::with_capacity(2 * mergeable.len());
    for (token, score) in &mergeable {
        let cuts = token.char_indices().skip(1).map(|(i, _)| token.split_at(i));
        let halves = cuts.filter(|(left, right)| mergeable.contains_key(left) && mergeable.contains_key(right));
        merges.extend(halves.map(|(left, right)| (*score, left, right)));
        if merges.len() > limit {
            let tokens = mergeable.len();
            let reason = format!("{tokens} tokens can be put together in more than {limit} ways");
            return Err(Failure::new(format!("tokenizer.ggml.tokens: {reason}")));
        }
    }
    merges.sort_unstable_by(|(a_score, a_left, a_right), (b_score, b_left, b_right)| {
        let by_score = b_score.total_cmp(a_score);
        by_score.then(b_left.len().cmp(&a_left.len())).then((a_left, a_right).cmp(&(b_left, b_right)))
    });
    Ok(merges.into_iter().map(|(_, left, right)| (left.to_string(), right.to_string())).collect())
}

fn normalizer(add_space_prefix: bool) -> Outcome<NormalizerWrapper> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space_prefix {
        steps.push(Prepend::new(SPACE.to_string()).into());
    }
    steps.push(Replace::new(" ", SPACE).map_err(Failure::new)?.into());
    Ok(Normalizers::new(steps).into())
}

fn decoder(add_space_prefix: bool) -> Outcome<DecoderWrapper> {
    let mut steps: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE, " ").map_err(Failure::new)?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
    ];
    if add_space_prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}

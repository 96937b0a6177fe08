//! The functions of `text.h` for grammars, as `ffi` has the others.

use std::sync::Arc;

use crate::failure::Outcome;
use crate::ffi::{enter, give_ids, release, slice, Bytes, Ids, Span, Status};
use crate::grammar::{Grammar, Syntax, Texts, Vocabulary};
use crate::grammar_matcher::GrammarMatcher;

#[repr(C)]
pub struct RawTexts {
    size: usize,
    offsets: *const u32,
    bytes: Span,
    special: *const u8,
    ends: *const i32,
    ends_size: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
#[allow(dead_code)] // The caller makes them.
pub enum RawSyntax {
    JsonSchema = 0,
    Regex = 1,
    Lark = 2,
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_token_trie_new(
    raw: *const RawTexts,
    out: *mut *mut Arc<Vocabulary>,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let raw = &*raw;
        let texts = Texts {
            offsets: slice(raw.offsets, raw.size + 1),
            bytes: raw.bytes.bytes(),
            special: slice(raw.special, raw.size),
            ends: slice(raw.ends, raw.ends_size),
        };
        give(Arc::new(Vocabulary::new(&texts)?), out)
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_token_trie_free(vocabulary: *mut Arc<Vocabulary>) {
    release(vocabulary, 1);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_token_trie_bytes(vocabulary: *const Arc<Vocabulary>) -> usize {
    (*vocabulary).bytes()
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_grammar_compile(
    vocabulary: *const Arc<Vocabulary>,
    syntax: RawSyntax,
    text: Span,
    out: *mut *mut Grammar,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let syntax = match syntax {
            RawSyntax::JsonSchema => Syntax::JsonSchema,
            RawSyntax::Regex => Syntax::Regex,
            RawSyntax::Lark => Syntax::Lark,
        };
        give(Grammar::compile(&*vocabulary, syntax, text.text("grammar")?)?, out)
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_grammar_free(grammar: *mut Grammar) {
    release(grammar, 1);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_grammar_bytes(grammar: *const Grammar) -> usize {
    let mut bytes = 0;
    enter(std::ptr::null_mut(), || {
        bytes = (*grammar).bytes();
        Ok(())
    });
    bytes
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_new(
    grammar: *const Grammar,
    out: *mut *mut GrammarMatcher,
    error: *mut Bytes,
) -> Status {
    enter(error, || give((*grammar).matcher()?, out))
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_free(matcher: *mut GrammarMatcher) {
    release(matcher, 1);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_mask(
    matcher: *mut GrammarMatcher,
    words: *mut u32,
    words_size: usize,
    may_end: *mut bool,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let mut none = [0];
        let words = if words_size == 0 { &mut none[..0] } else { std::slice::from_raw_parts_mut(words, words_size) };
        *may_end = (*matcher).mask(words)?;
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_may_end(
    matcher: *mut GrammarMatcher,
    may_end: *mut bool,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        *may_end = (*matcher).may_end()?;
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_push(
    matcher: *mut GrammarMatcher,
    token: i32,
    taken: *mut bool,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        *taken = (*matcher).push(token)?;
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_pop(matcher: *mut GrammarMatcher, tokens: usize, error: *mut Bytes) -> Status {
    enter(error, || (*matcher).pop(tokens))
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_matcher_forced(
    matcher: *mut GrammarMatcher,
    most: usize,
    ids: *mut Ids,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        give_ids((*matcher).forced(most), ids);
        Ok(())
    })
}

unsafe fn give<T>(made: T, out: *mut *mut T) -> Outcome<()> {
    out.write(Box::into_raw(Box::new(made)));
    Ok(())
}

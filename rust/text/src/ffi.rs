//! The functions of `text.h`, under its names and with its rules. Pointers are trusted as that header says; texts are
//! not.

use std::panic::{catch_unwind, AssertUnwindSafe, PanicHookInfo};
use std::ptr;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::chat::{self, Chat};
use crate::failure::{Failure, Outcome};
use crate::sampled::Sampled;
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Span {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut i32,
    size: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
#[allow(dead_code)] // Which ones are made depends on the outcome alone.
pub enum Status {
    Ok = 0,
    InvalidUtf8 = 1,
    Invalid = 2,
    Broken = 3,
    Unavailable = 4,
    InvalidSchema = 5,
    UnsupportedSchema = 6,
}

#[repr(C)]
pub struct RawVocabulary {
    model: Span,
    pre: Span,
    tokens: *const Span,
    token_types: *const i32,
    scores: *const f32,
    scores_size: usize,
    tokens_size: usize,
    merges: *const Span,
    merges_size: usize,
    bos: i32,
    eos: i32,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    marks_take_blanks: bool,
}

#[repr(C)]
pub struct RawTable {
    size: usize,
    offsets: *const u32,
    bytes: *const u8,
    special: *const u8,
    drops_first_space: bool,
}

#[repr(C)]
pub struct RawChat {
    messages: Span,
    tools: Span,
    arguments: Span,
    add_generation_prompt: bool,
}

#[repr(C)]
pub struct RawSampled {
    begin: usize,
    ids: *const i32,
    ids_size: usize,
}

// Crossing over -------------------------------------------------------------------------------------------------------

impl Span {
    /// `what` names the text in the error.
    pub unsafe fn text<'a>(self, what: &str) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes())
            .map_err(|error| Failure::Utf8(format!("{what}: not UTF-8 at byte {}", error.valid_up_to())))
    }

    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    unsafe fn optional_text<'a>(self, what: &str) -> Outcome<Option<&'a str>> {
        Ok(Some(self.text(what)?).filter(|text| !text.is_empty()))
    }
}

pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

unsafe fn texts<'a>(spans: &[Span], what: &str) -> Outcome<Vec<&'a str>> {
    let text = |(i, span): (usize, &Span)| span.text(&format!("{what}[{i}]"));
    spans.iter().enumerate().map(text).collect()
}

fn leak<T>(values: Vec<T>) -> (*mut T, usize) {
    let size = values.len();
    (Box::into_raw(values.into_boxed_slice()).cast(), size)
}

unsafe fn give_bytes(text: String, out: *mut Bytes) {
    if !out.is_null() {
        let (data, size) = leak(text.into_bytes());
        out.write(Bytes { data, size });
    }
}

pub unsafe fn give_ids(ids: Vec<i32>, out: *mut Ids) {
    if !out.is_null() {
        let (data, size) = leak(ids);
        out.write(Ids { data, size });
    }
}

pub unsafe fn release<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)))));
    }
}

/// What the newest panic said, on whatever thread it was.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn last_panic() -> MutexGuard<'static, String> {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line, without the folders of the machine that built this.
fn line_of(panic: &PanicHookInfo) -> String {
    let place = panic.location().map_or(String::new(), |at| {
        format!(" at {}:{}", at.file().rsplit(['/', '\\']).next().unwrap_or_default(), at.line())
    });
    let payload = panic.payload();
    let reason = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    format!("panicked{place}: {}", reason.unwrap_or("no reason given").replace(char::is_control, " "))
}

/// Runs `work` so that neither an error nor a panic gets past it.
pub unsafe fn enter(error: *mut Bytes, work: impl FnOnce() -> Outcome<()>) -> Status {
    static HOOK: Once = Once::new();
    // A panic is told by the error; the default hook would also print it.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| *last_panic() = line_of(panic))));
    let (status, reason) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(Failure::Utf8(reason))) => (Status::InvalidUtf8, reason),
        Ok(Err(Failure::Invalid(reason))) => (Status::Invalid, reason),
        Ok(Err(Failure::InvalidSchema(reason))) => (Status::InvalidSchema, reason),
        Ok(Err(Failure::UnsupportedSchema(reason))) => (Status::UnsupportedSchema, reason),
        Ok(Err(Failure::Unavailable(reason))) => (Status::Unavailable, reason),
        Err(_) => (Status::Broken, last_panic().clone()),
    };
    give_bytes(reason, error);
    status
}

// Exports -------------------------------------------------------------------------------------------------------------

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_bytes_free(bytes: Bytes) {
    release(bytes.data, bytes.size);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_ids_free(ids: Ids) {
    release(ids.data, ids.size);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_from_json(json: Span, out: *mut *mut Tokenizer, error: *mut Bytes) -> Status {
    enter(error, || {
        let tokenizer = Tokenizer::from_json(json.text("tokenizer.json")?)?;
        out.write(Box::into_raw(Box::new(tokenizer)));
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_from_vocabulary(
    vocabulary: *const RawVocabulary,
    out: *mut *mut Tokenizer,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let raw = &*vocabulary;
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary {
            model: raw.model.text("tokenizer.ggml.model")?,
            pre: raw.pre.text("tokenizer.ggml.pre")?,
            tokens: texts(slice(raw.tokens, raw.tokens_size), "tokenizer.ggml.tokens")?,
            token_types: slice(raw.token_types, raw.tokens_size),
            scores: slice(raw.scores, raw.scores_size),
            merges: texts(slice(raw.merges, raw.merges_size), "tokenizer.ggml.merges")?,
            bos: u32::try_from(raw.bos).ok(),
            eos: u32::try_from(raw.eos).ok(),
            add_bos: raw.add_bos,
            add_eos: raw.add_eos,
            add_space_prefix: raw.add_space_prefix,
            marks_take_blanks: raw.marks_take_blanks,
        })?;
        out.write(Box::into_raw(Box::new(tokenizer)));
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_free(tokenizer: *mut Tokenizer) {
    release(tokenizer, 1);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_table(tokenizer: *const Tokenizer) -> RawTable {
    let table = (*tokenizer).table();
    RawTable {
        size: table.special.len(),
        offsets: table.offsets.as_ptr(),
        bytes: table.bytes.as_ptr(),
        special: table.special.as_ptr(),
        drops_first_space: table.drops_first_space,
    }
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_id(tokenizer: *const Tokenizer, token: Span) -> i32 {
    let mut id = -1;
    enter(ptr::null_mut(), || {
        id = (*tokenizer).id(token.text("token")?).unwrap_or(-1);
        Ok(())
    });
    id
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Span,
    pair: *const Span,
    add_special_tokens: bool,
    parse_special: bool,
    ids: *mut Ids,
    types: *mut Ids,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let text = text.text("text")?;
        let pair = pair.as_ref().map(|pair| pair.text("second text")).transpose()?;
        let encoding = (*tokenizer).encode(text, pair, add_special_tokens, parse_special)?;
        give_ids(to_signed(encoding.get_ids()), ids);
        give_ids(to_signed(encoding.get_type_ids()), types);
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_template_new(
    source: Span,
    special_tokens: Span,
    out: *mut *mut Template,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let template = Template::new(source.text("chat template")?, special_tokens.text("special tokens")?)?;
        out.write(Box::into_raw(Box::new(template)));
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_template_free(template: *mut Template) {
    release(template, 1);
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_template_render(
    template: *const Template,
    raw: *const RawChat,
    text: *mut Bytes,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        give_bytes(chat::render(&*template, read_chat(&*raw)?)?, text);
        Ok(())
    })
}

/// # Safety
/// As `text.h` says.
#[no_mangle]
pub unsafe extern "C" fn cortex_template_encode(
    template: *const Template,
    tokenizer: *const Tokenizer,
    raw: *const RawChat,
    sampled: *const RawSampled,
    sampled_size: usize,
    ids: *mut Ids,
    text: *mut Bytes,
    error: *mut Bytes,
) -> Status {
    enter(error, || {
        let sampled: Vec<_> = slice(sampled, sampled_size)
            .iter()
            .map(|one| Sampled { begin: one.begin, ids: slice(one.ids, one.ids_size) })
            .collect();
        let prompt = chat::encode(&*template, &*tokenizer, read_chat(&*raw)?, &sampled)?;
        give_ids(to_signed(&prompt.ids), ids);
        give_bytes(prompt.text, text);
        Ok(())
    })
}

unsafe fn read_chat(raw: &RawChat) -> Outcome<Chat> {
    Chat::parse(
        raw.messages.text("messages")?,
        raw.tools.optional_text("tools")?,
        raw.arguments.optional_text("template arguments")?,
        raw.add_generation_prompt,
    )
}

/// Ids fit: loading a tokenizer sees to it.
fn to_signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|id| *id as i32).collect()
}

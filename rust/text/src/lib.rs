//! Tokenizers and chat templates behind one C interface, `text.h`; `ffi` is its other side.

mod added_tokens;
mod chat;
mod failure;
mod ffi;
mod python_json;
mod template;
mod token_table;
mod tokenizer;
mod vocabulary;

//! Tokenizers and chat templates behind one C interface, `text.h`; `ffi` is its other side.

mod added_tokens;
mod chat;
mod container_guard;
mod deep_stack;
mod failure;
mod ffi;
mod hermes;
mod namespace_guard;
mod plain_model;
mod pre_tokenizers;
mod python_json;
mod reserved_tokens;
mod sampled;
mod sentencepiece;
mod stand_ins;
mod template;
mod token_table;
mod tokenizer;
mod tokenizer_json;
mod vocabulary;

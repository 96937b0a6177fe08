//! Tokenizers, chat templates and grammars behind one C interface, `text.h`; `ffi` is its other side.

mod added_tokens;
mod chat;
mod container_guard;
mod deep_stack;
mod failure;
mod ffi;
mod grammar;
mod grammar_ffi;
mod hermes;
mod lark_schemas;
mod namespace_guard;
mod plain_model;
mod pre_tokenizers;
mod python_json;
mod reserved_tokens;
mod sampled;
mod schema;
mod schema_keywords;
mod schema_places;
mod sentencepiece;
mod stand_ins;
mod template;
mod token_table;
mod tokenizer;
mod tokenizer_json;
mod vocabulary;

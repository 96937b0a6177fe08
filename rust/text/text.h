/* Tokenizers, chat templates and grammars, in Rust, as C sees them: the only way into this crate (src/text is its C++
 * face).
 *
 * Any function may be called from any thread; tokenizers, templates and grammars are immutable and may be shared. No
 * panic gets out. A function that can fail returns a cortex_status; unless it is CORTEX_OK its outputs are untouched
 * and *error holds the reason. What is handed out as cortex_bytes or cortex_ids is freed by the caller, once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cortex_status {
  CORTEX_OK = 0,
  CORTEX_INVALID_UTF8 = 1,       /* a text is not UTF-8 */
  CORTEX_INVALID = 2,            /* what was given can't be used: the error says why */
  CORTEX_BROKEN = 3,             /* a bug: a panic was caught */
  CORTEX_UNAVAILABLE = 4,        /* the machine lacks what it takes, now; the same call may do later */
  CORTEX_INVALID_SCHEMA = 5,     /* it is no JSON schema */
  CORTEX_UNSUPPORTED_SCHEMA = 6, /* a JSON schema says what can't be kept to */
} cortex_status;

/* Borrowed for the call. `data` may be null when `size` is 0. */
typedef struct cortex_span {
  const char* data;
  size_t size;
} cortex_span;

/* Owned by the caller. */
typedef struct cortex_bytes {
  char* data;
  size_t size;
} cortex_bytes;
typedef struct cortex_ids {
  int32_t* data;
  size_t size;
} cortex_ids;

void cortex_bytes_free(cortex_bytes bytes);
void cortex_ids_free(cortex_ids ids);

/* Tokenizers ------------------------------------------------------------------------------------------------------- */

typedef struct cortex_tokenizer cortex_tokenizer;

/* A vocabulary as GGUF files have it. Optional ids are -1 when absent. */
typedef struct cortex_vocabulary {
  cortex_span model; /* "gpt2", "llama" */
  cortex_span pre;   /* "smollm"; of "gpt2" only */
  const cortex_span* tokens;
  const int32_t* token_types; /* [tokens_size] */
  const float* scores;        /* [tokens_size]; of "llama" only */
  size_t scores_size;
  size_t tokens_size;
  const cortex_span* merges; /* "left right", best first; of "gpt2" only */
  size_t merges_size;
  int32_t bos;
  int32_t eos;
  bool add_bos;
  bool add_eos;
  bool add_space_prefix;  /* of "llama" only */
  bool marks_take_blanks; /* the blanks behind a special token are a part of it */
} cortex_vocabulary;

cortex_status cortex_tokenizer_from_json(cortex_span json, cortex_tokenizer** out, cortex_bytes* error);
cortex_status cortex_tokenizer_from_vocabulary(const cortex_vocabulary* vocabulary, cortex_tokenizer** out,
                                               cortex_bytes* error);
void cortex_tokenizer_free(cortex_tokenizer* tokenizer);

/* What each id adds to a text. Lives as long as the tokenizer. */
typedef struct cortex_token_table {
  size_t size;             /* ids are below it */
  const uint32_t* offsets; /* [size + 1]: the bytes of id i are bytes[offsets[i]] to bytes[offsets[i + 1]] */
  const char* bytes;
  const uint8_t* special; /* [size]: 1 for special tokens */
  bool drops_first_space; /* a text's first byte is left out when it is a space */
} cortex_token_table;
cortex_token_table cortex_tokenizer_table(const cortex_tokenizer* tokenizer);

/* The id of a token by its name in the vocabulary, or -1. */
int32_t cortex_tokenizer_id(const cortex_tokenizer* tokenizer, cortex_span token);

/* `pair` may be null; `types` may be null and gets one type id per token. */
cortex_status cortex_tokenizer_encode(const cortex_tokenizer* tokenizer, cortex_span text, const cortex_span* pair,
                                      bool add_special_tokens, bool parse_special, cortex_ids* ids, cortex_ids* types,
                                      cortex_bytes* error);

/* Chat templates --------------------------------------------------------------------------------------------------- */

typedef struct cortex_template cortex_template;

/* `special_tokens` is a JSON object of strings: {"bos_token": "<s>"}. */
cortex_status cortex_template_new(cortex_span source, cortex_span special_tokens, cortex_template** out,
                                  cortex_bytes* error);
void cortex_template_free(cortex_template* chat_template);

typedef struct cortex_chat {
  cortex_span messages;  /* a JSON array */
  cortex_span tools;     /* JSON, or empty for none */
  cortex_span arguments; /* a JSON object of further variables, or empty for none */
  bool add_generation_prompt;
} cortex_chat;

cortex_status cortex_template_render(const cortex_template* chat_template, const cortex_chat* chat, cortex_bytes* text,
                                     cortex_bytes* error);

/* Ids that were sampled for the text from byte `begin` on. */
typedef struct cortex_sampled {
  size_t begin;
  const int32_t* ids;
  size_t ids_size;
} cortex_sampled;

/* Renders and encodes; special tokens, and others that the template writes, are text when they come with the chat.
 * `sampled`, in order, keeps its ids as far as they spell the text. `text` may be null and gets what was encoded. */
cortex_status cortex_template_encode(const cortex_template* chat_template, const cortex_tokenizer* tokenizer,
                                     const cortex_chat* chat, const cortex_sampled* sampled, size_t sampled_size,
                                     cortex_ids* ids, cortex_bytes* text, cortex_bytes* error);

/* Grammars --------------------------------------------------------------------------------------------------------- */

/* A vocabulary as grammars see it, which compiled grammars share and outlive. */
typedef struct cortex_token_trie cortex_token_trie;

/* What each id adds to a text: the bytes of id i are bytes[offsets[i]] to bytes[offsets[i + 1]]. */
typedef struct cortex_token_texts {
  size_t size;
  const uint32_t* offsets; /* [size + 1] */
  cortex_span bytes;
  const uint8_t* special; /* [size]: 1 where a grammar means it by its name alone, as <name> in Lark */
  const int32_t* ends;    /* [ends_size]: the tokens that end a text */
  size_t ends_size;
} cortex_token_texts;

cortex_status cortex_token_trie_new(const cortex_token_texts* texts, cortex_token_trie** out, cortex_bytes* error);
void cortex_token_trie_free(cortex_token_trie* trie);
size_t cortex_token_trie_bytes(const cortex_token_trie* trie); /* about what it takes */

typedef enum cortex_syntax { CORTEX_JSON_SCHEMA = 0, CORTEX_REGEX = 1, CORTEX_LARK = 2 } cortex_syntax;

typedef struct cortex_grammar cortex_grammar;

/* Takes up to some seconds. CORTEX_INVALID: a bad expression or Lark grammar. */
cortex_status cortex_grammar_compile(const cortex_token_trie* trie, cortex_syntax syntax, cortex_span text,
                                     cortex_grammar** out, cortex_bytes* error);
void cortex_grammar_free(cortex_grammar* grammar);
size_t cortex_grammar_bytes(const cortex_grammar* grammar); /* about what it takes now; it learns from its matchers */

/* Follows one text. One thread at a time; outlives its grammar. CORTEX_INVALID: it takes more than the limits allow;
 * the matcher is of no use then. */
typedef struct cortex_matcher cortex_matcher;
cortex_status cortex_matcher_new(const cortex_grammar* grammar, cortex_matcher** out, cortex_bytes* error);
void cortex_matcher_free(cortex_matcher* matcher);

/* The tokens that may come next, a bit each; others are 0, as are those beyond the vocabulary. Where the text may end,
 * *may_end is true. */
cortex_status cortex_matcher_mask(cortex_matcher* matcher, uint32_t* words, size_t words_size, bool* may_end,
                                  cortex_bytes* error);
cortex_status cortex_matcher_may_end(cortex_matcher* matcher, bool* may_end, cortex_bytes* error);
/* *taken is false, and nothing has changed, where the token may not come. */
cortex_status cortex_matcher_push(cortex_matcher* matcher, int32_t token, bool* taken, cortex_bytes* error);
cortex_status cortex_matcher_pop(cortex_matcher* matcher, size_t tokens, cortex_bytes* error);
/* Tokens that spell what must come next, at most so many. */
cortex_status cortex_matcher_forced(cortex_matcher* matcher, size_t most, cortex_ids* ids, cortex_bytes* error);

#ifdef __cplusplus
}
#endif

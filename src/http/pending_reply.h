// One reply on its way from a handler to a connection: what the handler says becomes bytes here, and the connection
// takes them. No sockets. Shared by the two sides: respond() to disconnected() are the handler's, on any thread; the
// rest is the connection's, on its own. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "http/error_reply.h"
#include "http/exchange.h"

namespace cortex {

struct ReplyTerms {
  std::string request_id;
  Dialect dialect = Dialect::native;  // of the 500 for a handler that never answered
  bool head_only = false;             // HEAD: headers as for GET, no body
  bool is_http_1_0 = false;           // streams end with the connection
  bool keep_alive = true;
  std::size_t stream_buffer_limit_bytes = 1 << 20;
  std::shared_ptr<const std::atomic<bool>> draining;  // connections close after their reply; may be null
};

// What the handler says of it for the metrics.
struct ReplyNotes {
  std::string model;  // empty: of none
  std::optional<ErrorCode> error;
};

class PendingReply {
 public:
  // `wake` is called with the reply locked whenever there is something for the connection to do; it must only post.
  PendingReply(ReplyTerms terms, std::function<void()> wake);

  // The handler's end; when the last copy goes the reply is abandoned: 500, or a cut stream.
  static std::shared_ptr<HttpReply> handle(std::shared_ptr<PendingReply> reply);

  // As HttpReply has them.
  bool respond(int status, const HttpHeaders& headers, const std::string& body);
  void start_stream(int status, HttpHeaders headers);
  void write(std::string_view bytes);
  void end(StreamEnd how);
  void on_disconnect(std::function<void()> callback);
  bool disconnected() const;
  void note_model(const std::string& model);
  void note_error(ErrorCode code);
  // The handler has gone: without an answer that is a 500, in a stream a cut.
  void abandon();
  // Answers with an error, in the terms' dialect.
  void refuse(const Error& error, HttpHeaders headers = {});

  struct Output {
    std::string bytes;
    bool finished = false;    // nothing comes after these bytes
    bool keep_alive = false;  // when finished: the connection may serve another request
  };
  // What is to be sent now; the handler may have more in the buffer only once sent() has told how far it has got.
  Output take();
  void sent(std::size_t bytes);
  // The peer reads so slowly that the stream's buffer is full: treat it as gone.
  bool overflowed() const;
  // A comment into a silent event stream.
  void ping();
  // An interim 102 as long as nothing of the reply has left: a peer that has closed both sides answers with a reset.
  // HTTP/1.0 knows no interim replies.
  void probe();
  // The peer is gone. Calls the handler's callback unless its answer is complete; nothing is called or woken after it.
  void disconnect();

  int status() const;  // 0 before there is one
  std::uint64_t sent_bytes() const;
  ReplyNotes notes() const;

 private:
  enum class Phase { waiting, announced, streaming, finished };

  void put_head(int status, const HttpHeaders& headers, std::string_view framing);
  void put_stream_head();
  void put_chunk(std::string_view bytes);
  void finish(StreamEnd how);
  void wake();

  const ReplyTerms terms_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;  // null once the connection has left
  std::function<void()> on_disconnect_;
  Phase phase_ = Phase::waiting;
  int stream_status_ = 0;  // of an announced stream
  HttpHeaders stream_headers_;
  std::string output_;
  std::size_t unsent_bytes_ = 0;  // output_, and what take() gave and sent() has not told of
  std::uint64_t sent_bytes_ = 0;
  int status_ = 0;
  ReplyNotes notes_;
  bool keep_alive_;
  bool is_event_stream_ = false;
  bool overflowed_ = false;
  bool wake_pending_ = false;
  bool disconnected_ = false;
};

}  // namespace cortex

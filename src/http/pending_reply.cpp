#include "http/pending_reply.h"

#include <fmt/core.h>

#include <exception>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "http/gate.h"
#include "http/sse.h"

namespace cortex {
namespace {

constexpr std::string_view kEventStream = "text/event-stream";
constexpr std::string_view kProcessing = "HTTP/1.1 102 Processing\r\n\r\n";

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

bool is_close(const std::pair<std::string, std::string>& header) {
  return equal_ignoring_case(header.first, "connection") && equal_ignoring_case(header.second, "close");
}

class Handle : public HttpReply {
 public:
  explicit Handle(std::shared_ptr<PendingReply> reply) : reply_(std::move(reply)) {}
  ~Handle() override { reply_->abandon(); }

  bool respond(int status, HttpHeaders headers, std::string body) override {
    return reply_->respond(status, headers, body);
  }
  void start_stream(int status, HttpHeaders headers) override { reply_->start_stream(status, std::move(headers)); }
  void write(std::string bytes) override { reply_->write(bytes); }
  void end(StreamEnd how) override { reply_->end(how); }
  void on_disconnect(std::function<void()> callback) override { reply_->on_disconnect(std::move(callback)); }
  bool disconnected() const override { return reply_->disconnected(); }
  void note_model(const std::string& model) override { reply_->note_model(model); }
  void note_error(ErrorCode code) override { reply_->note_error(code); }

 private:
  std::shared_ptr<PendingReply> reply_;
};

}  // namespace

PendingReply::PendingReply(ReplyTerms terms, std::function<void()> wake)
    : terms_(std::move(terms)), wake_(std::move(wake)), keep_alive_(terms_.keep_alive) {}

std::shared_ptr<HttpReply> PendingReply::handle(std::shared_ptr<PendingReply> reply) {
  return std::make_shared<Handle>(std::move(reply));
}

bool PendingReply::respond(int status, const HttpHeaders& headers, const std::string& body) {
  std::lock_guard lock(mutex_);
  if (disconnected_) return true;
  if (phase_ == Phase::streaming || phase_ == Phase::finished) return false;
  const bool has_body = status != 204;
  const std::size_t before = output_.size();
  put_head(status, headers, has_body ? fmt::format("content-length: {}\r\n", body.size()) : std::string());
  if (has_body && !terms_.head_only) output_ += body;
  unsent_bytes_ += output_.size() - before;
  phase_ = Phase::finished;
  wake();
  return true;
}

void PendingReply::start_stream(int status, HttpHeaders headers) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::waiting) return;
  for (const auto& [name, value] : headers) {
    const std::string_view type = std::string_view(value).substr(0, kEventStream.size());
    is_event_stream_ =
        is_event_stream_ || (equal_ignoring_case(name, "content-type") && equal_ignoring_case(type, kEventStream));
  }
  stream_status_ = status;
  stream_headers_ = std::move(headers);
  phase_ = Phase::announced;
  wake();
}

void PendingReply::write(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  if (disconnected_ || bytes.empty() || (phase_ != Phase::announced && phase_ != Phase::streaming)) return;
  if (unsent_bytes_ > terms_.stream_buffer_limit_bytes) {
    if (!overflowed_) wake_pending_ = false;  // the last wake may have been spent on a write that will not end
    overflowed_ = true;
  } else {
    put_chunk(bytes);
  }
  wake();
}

void PendingReply::end(StreamEnd how) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::announced && phase_ != Phase::streaming) return;
  finish(how);
  wake();
}

void PendingReply::on_disconnect(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (phase_ == Phase::finished) return;
    if (!disconnected_) {
      on_disconnect_ = std::move(callback);
      return;
    }
  }
  callback();
}

bool PendingReply::disconnected() const {
  std::lock_guard lock(mutex_);
  return disconnected_;
}

void PendingReply::note_model(const std::string& model) {
  std::lock_guard lock(mutex_);
  notes_.model = model;
}

void PendingReply::note_error(ErrorCode code) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::finished) notes_.error = code;
}

ReplyNotes PendingReply::notes() const {
  std::lock_guard lock(mutex_);
  return notes_;
}

void PendingReply::abandon() {
  std::unique_lock lock(mutex_);
  if (phase_ == Phase::finished || disconnected_) return;
  if (phase_ == Phase::waiting) {
    lock.unlock();
    refuse(Error(ErrorCode::internal_error, "the request was dropped without an answer"));
    return;
  }
  finish(StreamEnd::cut);
  wake();
}

void PendingReply::refuse(const Error& error, HttpHeaders headers) {
  for (auto& header : error_headers(error, terms_.dialect)) headers.push_back(std::move(header));
  headers.emplace_back("content-type", "application/json");
  note_error(error.code());
  respond(http_status(error.code(), terms_.dialect), headers, error_body(error, terms_.dialect, terms_.request_id));
}

PendingReply::Output PendingReply::take() {
  std::lock_guard lock(mutex_);
  wake_pending_ = false;
  return {std::exchange(output_, {}), phase_ == Phase::finished, keep_alive_};
}

void PendingReply::sent(std::size_t bytes) {
  std::lock_guard lock(mutex_);
  unsent_bytes_ -= bytes;
  sent_bytes_ += bytes;
}

bool PendingReply::overflowed() const {
  std::lock_guard lock(mutex_);
  return overflowed_;
}

void PendingReply::ping() {
  std::lock_guard lock(mutex_);
  if (is_event_stream_ && (phase_ == Phase::announced || phase_ == Phase::streaming)) put_chunk(sse_ping());
}

void PendingReply::probe() {
  std::lock_guard lock(mutex_);
  if (terms_.is_http_1_0 || (phase_ != Phase::waiting && phase_ != Phase::announced)) return;
  output_ += kProcessing;
  unsent_bytes_ += kProcessing.size();
}

void PendingReply::disconnect() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    wake_ = nullptr;
    callback = std::exchange(on_disconnect_, nullptr);
    if (phase_ == Phase::finished || disconnected_) callback = nullptr;
    disconnected_ = true;
  }
  if (!callback) return;
  try {
    callback();
  } catch (const std::exception& error) {
    log_error(fmt::format("a disconnect callback failed: {}", error.what()), terms_.request_id);
  }
}

int PendingReply::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

std::uint64_t PendingReply::sent_bytes() const {
  std::lock_guard lock(mutex_);
  return sent_bytes_;
}

void PendingReply::put_head(int status, const HttpHeaders& headers, std::string_view framing) {
  status_ = status;
  if (terms_.draining && *terms_.draining) keep_alive_ = false;
  output_ += fmt::format("HTTP/1.1 {} {}\r\n", status, reason_of(status));
  for (const auto& header : headers) {
    const auto& [name, value] = header;
    CORTEX_CHECK(name.find_first_of("\r\n: ") == name.npos &&
                 value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos);
    if (is_close(header)) {
      keep_alive_ = false;
    } else {
      output_ += fmt::format("{}: {}\r\n", name, value);
    }
  }
  output_ += fmt::format("x-request-id: {}\r\n", terms_.request_id);
  output_ += framing;
  if (!keep_alive_) {
    output_ += "connection: close\r\n";
  } else if (terms_.is_http_1_0) {
    output_ += "connection: keep-alive\r\n";
  }
  output_ += "\r\n";
}

void PendingReply::put_stream_head() {
  if (terms_.is_http_1_0) keep_alive_ = false;
  const std::size_t before = output_.size();
  put_head(stream_status_, stream_headers_, terms_.is_http_1_0 ? "" : "transfer-encoding: chunked\r\n");
  unsent_bytes_ += output_.size() - before;
  phase_ = Phase::streaming;
}

void PendingReply::put_chunk(std::string_view bytes) {
  if (phase_ == Phase::announced) put_stream_head();
  if (terms_.head_only) return;
  const std::size_t before = output_.size();
  if (terms_.is_http_1_0) {
    output_ += bytes;
  } else {
    output_ += fmt::format("{:x}\r\n", bytes.size());
    output_ += bytes;
    output_ += "\r\n";
  }
  unsent_bytes_ += output_.size() - before;
}

void PendingReply::finish(StreamEnd how) {
  if (phase_ == Phase::announced) put_stream_head();
  if (how != StreamEnd::complete) keep_alive_ = false;
  if (how != StreamEnd::cut && !terms_.is_http_1_0 && !terms_.head_only) {
    output_ += "0\r\n\r\n";
    unsent_bytes_ += 5;
  }
  phase_ = Phase::finished;
}

void PendingReply::wake() {
  if (!wake_ || wake_pending_) return;
  wake_pending_ = true;
  wake_();
}

}  // namespace cortex

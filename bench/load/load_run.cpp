#include "bench/load/load_run.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>

#include "base/error.h"
#include "bench/load/process_tree.h"
#include "bench/load/sse_splitter.h"

namespace cortex {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Milliseconds = std::chrono::duration<double, std::milli>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kPieceBytes = 16 << 10;
constexpr std::size_t kLongestRefusalBytes = 300;
constexpr std::chrono::milliseconds kMemoryInterval{200};

double cpu_ms() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto ms = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

class Run {
 public:
  Run(const LoadTarget& target, const LoadPlan& plan) : target_(target), plan_(plan) {
    error_code error;
    endpoints_ = tcp::resolver(context_).resolve(target.host, target.port, error);
    if (error) {
      throw Error(ErrorCode::invalid_option, fmt::format("{}:{}: {}", target.host, target.port, error.message()));
    }
    result_.chats.resize(plan.chats.size());
    if (plan.long_chat) result_.long_chat.emplace();
    result_.embeds.resize(plan.embeds.size());
  }

  LoadResult run(double timeout_ms) {
    begin_ = std::chrono::steady_clock::now();
    const double cpu_before_ms = cpu_ms();
    if (plan_.chats_are_a_queue) {
      start(chat_queue());
    } else {
      for (std::size_t i = 0; i < plan_.chats.size(); ++i) start(planned_chat(plan_.chats[i], &result_.chats[i]));
    }
    if (plan_.long_chat) start(planned_chat(*plan_.long_chat, &*result_.long_chat));
    if (!plan_.embeds.empty()) start(embed_queue());
    if (target_.process != 0) asio::co_spawn(context_, watch_memory(), asio::detached);
    if (unfinished_ > 0) context_.run_for(std::chrono::ceil<std::chrono::milliseconds>(Milliseconds(timeout_ms)));
    result_.wall_ms = now_ms();
    result_.client_cpu_share = (cpu_ms() - cpu_before_ms) / result_.wall_ms;
    if (target_.process != 0) look_at_memory();
    return std::move(result_);
  }

 private:
  double now_ms() const { return Milliseconds(std::chrono::steady_clock::now() - begin_).count(); }

  // What all wait for: when the last of these has ended, so has the run.
  void start(asio::awaitable<void> job) {
    ++unfinished_;
    asio::co_spawn(context_, std::move(job), [this](const std::exception_ptr& failure) {
      if (--unfinished_ == 0 || failure) context_.stop();
      if (failure) std::rethrow_exception(failure);
    });
  }

  asio::awaitable<void> wait_until_ms(double ms) {
    if (ms <= 0.0) co_return;
    asio::steady_timer timer(context_, begin_ + std::chrono::ceil<std::chrono::microseconds>(Milliseconds(ms)));
    co_await timer.async_wait(kAwait);
  }

  asio::awaitable<void> planned_chat(const PlannedRequest& planned, ChatRun* run) {
    co_await wait_until_ms(planned.start_ms);
    run->start_ms = planned.start_ms;
    co_await chat(planned, run);
  }

  asio::awaitable<void> chat_queue() {
    for (std::size_t i = 0; i < plan_.chats.size(); ++i) {
      result_.chats[i].start_ms = now_ms();
      co_await chat(plan_.chats[i], &result_.chats[i]);
    }
  }

  asio::awaitable<void> embed_queue() {
    for (std::size_t i = 0; i < plan_.embeds.size(); ++i) {
      const double start_ms = now_ms();
      result_.embeds[i].error = co_await post("/embed", plan_.embeds[i].body, [](std::string_view) {});
      result_.embeds[i].ms = now_ms() - start_ms;
    }
  }

  asio::awaitable<void> chat(const PlannedRequest& planned, ChatRun* run) {
    SseSplitter splitter;
    bool is_done = false;
    std::string told;
    const auto on_event = [&](std::string_view data) {
      const ChatChunk chunk = read_chat_chunk(data);
      if (chunk.has_text) run->piece_ms.push_back(now_ms());
      if (!chunk.finish_reason.empty()) run->finish_reason = chunk.finish_reason;
      if (chunk.usage) run->usage = *chunk.usage;
      if (!chunk.error.empty()) told = chunk.error;
      is_done = is_done || chunk.is_done;
    };
    std::string error = co_await post("/v1/chat/completions", planned.body,
                                      [&](std::string_view bytes) { splitter.feed(bytes, on_event); });
    run->end_ms = now_ms();
    if (error.empty()) error = told;
    if (error.empty() && !is_done) error = "the stream ended before it was done";
    run->error = std::move(error);
  }

  http::request<http::string_body> request_of(const char* path, const std::string& body) const {
    http::request<http::string_body> request(http::verb::post, path, 11);
    request.set(http::field::host, fmt::format("{}:{}", target_.host, target_.port));
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    if (!target_.api_key.empty()) request.set(http::field::authorization, "Bearer " + target_.api_key);
    request.body() = body;
    request.prepare_payload();
    return request;
  }

  // Gives the reply's body to `take` as it comes; says what went wrong, or nothing.
  template <typename Take>
  asio::awaitable<std::string> post(const char* path, const std::string& body, Take take) {
    tcp::socket socket(context_);
    const auto request = request_of(path, body);
    if (auto [error, endpoint] = co_await asio::async_connect(socket, endpoints_, kAwait); error) {
      co_return "can't connect: " + error.message();
    }
    if (auto [error, sent] = co_await http::async_write(socket, request, kAwait); error) {
      co_return "sending: " + error.message();
    }
    boost::beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> reply;
    reply.body_limit(boost::none);
    if (auto [error, got] = co_await http::async_read_header(socket, buffer, reply, kAwait); error) {
      co_return "no reply: " + error.message();
    }
    const unsigned status = reply.get().result_int();
    std::string refusal;
    std::array<char, kPieceBytes> piece;
    while (!reply.is_done()) {
      reply.get().body().data = piece.data();
      reply.get().body().size = piece.size();
      auto [error, got] = co_await http::async_read_some(socket, buffer, reply, kAwait);
      if (error && error != http::error::need_buffer) co_return "a cut reply: " + error.message();
      const std::string_view bytes(piece.data(), piece.size() - reply.get().body().size);
      if (status == 200) {
        take(bytes);
      } else if (refusal.size() < kLongestRefusalBytes) {
        refusal += bytes;
      }
    }
    co_return status == 200 ? std::string()
                            : fmt::format("status {}: {}", status, refusal.substr(0, kLongestRefusalBytes));
  }

  void look_at_memory() {
    result_.last_bytes = resident_tree_bytes(target_.process);
    result_.most_bytes = std::max(result_.most_bytes, result_.last_bytes);
  }

  asio::awaitable<void> watch_memory() {
    asio::steady_timer timer(context_);
    for (;;) {
      look_at_memory();
      timer.expires_after(kMemoryInterval);
      co_await timer.async_wait(kAwait);
    }
  }

  const LoadTarget& target_;
  const LoadPlan& plan_;
  asio::io_context context_{1};
  tcp::resolver::results_type endpoints_;
  std::chrono::steady_clock::time_point begin_;
  int unfinished_ = 0;
  LoadResult result_;
};

}  // namespace

LoadTarget LoadTarget::of_url(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  std::string_view rest = url;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto colon = rest.rfind(':');
  LoadTarget target;
  target.host = rest.substr(0, colon);
  target.port = colon == std::string_view::npos ? "80" : rest.substr(colon + 1);
  const bool is_number = target.port.find_first_not_of("0123456789") == std::string::npos;
  if (!url.starts_with(kScheme) || target.host.empty() || target.host.find('/') != std::string::npos ||
      target.port.empty() || target.port.size() > 5 || !is_number) {
    throw Error(ErrorCode::invalid_option, fmt::format("--url {}: http://HOST:PORT is wanted", url), "url");
  }
  return target;
}

LoadResult run_load(const LoadTarget& target, const LoadPlan& plan, double timeout_ms) {
  return Run(target, plan).run(timeout_ms);
}

}  // namespace cortex

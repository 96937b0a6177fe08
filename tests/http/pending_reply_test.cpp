#include "http/pending_reply.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

ReplyTerms terms() {
  ReplyTerms terms;
  terms.request_id = "req_1";
  return terms;
}

struct Opened {
  explicit Opened(ReplyTerms given = terms())
      : reply(std::make_shared<PendingReply>(std::move(given), [this] { ++wakes; })) {}
  std::string take() {
    const auto output = reply->take();
    reply->sent(output.bytes.size());
    return output.bytes;
  }
  int wakes = 0;
  std::shared_ptr<PendingReply> reply;
};

TEST(PendingReply, RespondsWithItsLength) {
  Opened opened;
  EXPECT_TRUE(opened.reply->respond(200, {{"content-type", "application/json"}}, "{}"));
  EXPECT_EQ(opened.wakes, 1);
  const auto output = opened.reply->take();
  EXPECT_EQ(output.bytes,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: 2\r\n\r\n{}");
  EXPECT_TRUE(output.finished);
  EXPECT_TRUE(output.keep_alive);
  EXPECT_FALSE(opened.reply->respond(200, {}, "again"));
  EXPECT_EQ(opened.reply->status(), 200);
}

TEST(PendingReply, HeadAndNoContentHaveNoBody) {
  ReplyTerms head = terms();
  head.head_only = true;
  Opened opened(head);
  opened.reply->respond(200, {}, "four");
  EXPECT_EQ(opened.take(), "HTTP/1.1 200 OK\r\nx-request-id: req_1\r\ncontent-length: 4\r\n\r\n");
  Opened empty;
  empty.reply->respond(204, {{"allow", "GET"}}, "");
  EXPECT_EQ(empty.take(), "HTTP/1.1 204 No Content\r\nallow: GET\r\nx-request-id: req_1\r\n\r\n");
}

TEST(PendingReply, SaysWhenItCloses) {
  const auto draining = std::make_shared<std::atomic<bool>>(true);
  ReplyTerms while_draining = terms();
  while_draining.draining = draining;
  Opened opened(while_draining);
  opened.reply->respond(200, {}, "");
  const auto output = opened.reply->take();
  EXPECT_NE(output.bytes.find("\r\nconnection: close\r\n"), std::string::npos);
  EXPECT_FALSE(output.keep_alive);
  Opened asked;
  asked.reply->respond(503, {{"Connection", "close"}}, "");
  const std::string bytes = asked.reply->take().bytes;
  EXPECT_EQ(
      bytes,
      "HTTP/1.1 503 Service Unavailable\r\nx-request-id: req_1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  EXPECT_FALSE(asked.reply->take().keep_alive);
}

TEST(PendingReply, StreamsInChunksBehindOneHead) {
  Opened opened;
  opened.reply->start_stream(200, {{"content-type", "text/event-stream; charset=utf-8"}});
  EXPECT_EQ(opened.take(), "");
  opened.reply->write("data: 1\n\n");
  EXPECT_EQ(opened.take(),
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_1\r\n"
            "transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
  opened.reply->write("x");
  opened.reply->write("");
  opened.reply->end(StreamEnd::complete);
  opened.reply->write("late");
  const auto output = opened.reply->take();
  EXPECT_EQ(output.bytes, "1\r\nx\r\n0\r\n\r\n");
  EXPECT_TRUE(output.finished);
  EXPECT_TRUE(output.keep_alive);
}

TEST(PendingReply, ACutStreamHasNoLastChunk) {
  Opened opened;
  opened.reply->start_stream(200, {});
  opened.reply->write("x");
  opened.reply->end(StreamEnd::cut);
  const auto output = opened.reply->take();
  EXPECT_TRUE(output.bytes.ends_with("1\r\nx\r\n"));
  EXPECT_FALSE(output.keep_alive);
}

TEST(PendingReply, AFailedStreamIsWholeButClosesTheConnection) {
  Opened opened;
  opened.reply->start_stream(200, {});
  opened.reply->write("x");
  opened.reply->end(StreamEnd::failed);
  const auto output = opened.reply->take();
  EXPECT_TRUE(output.bytes.ends_with("1\r\nx\r\n0\r\n\r\n"));
  EXPECT_FALSE(output.keep_alive);
}

TEST(PendingReply, AnEarlyErrorReplacesTheStream) {
  Opened opened;
  opened.reply->start_stream(200, {});
  EXPECT_TRUE(opened.reply->respond(429, {}, "{}"));
  EXPECT_TRUE(opened.take().starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
  Opened begun;
  begun.reply->start_stream(200, {});
  begun.reply->write("x");
  EXPECT_FALSE(begun.reply->respond(429, {}, "{}"));
}

TEST(PendingReply, PingsEventStreamsOnly) {
  Opened events;
  events.reply->ping();
  EXPECT_EQ(events.take(), "");
  events.reply->start_stream(200, {{"content-type", "text/event-stream; charset=utf-8"}});
  events.reply->ping();
  EXPECT_TRUE(events.take().ends_with("\r\n\r\n8\r\n: ping\n\n\r\n"));
  events.reply->ping();
  EXPECT_EQ(events.take(), "8\r\n: ping\n\n\r\n");
  Opened capital;
  capital.reply->start_stream(200, {{"Content-Type", "Text/Event-Stream"}});
  capital.reply->ping();
  EXPECT_TRUE(capital.take().ends_with("8\r\n: ping\n\n\r\n"));
  Opened lines;
  lines.reply->start_stream(200, {{"content-type", "application/x-ndjson"}});
  lines.reply->ping();
  EXPECT_EQ(lines.take(), "");
}

TEST(PendingReply, ProbesUntilSomethingHasLeft) {
  const std::string processing = "HTTP/1.1 102 Processing\r\n\r\n";
  Opened opened;
  opened.reply->probe();
  EXPECT_EQ(opened.take(), processing);
  EXPECT_EQ(opened.reply->status(), 0);
  opened.reply->start_stream(200, {});
  opened.reply->probe();
  EXPECT_TRUE(opened.reply->respond(429, {}, "{}"));
  EXPECT_TRUE(opened.take().starts_with(processing + "HTTP/1.1 429 Too Many Requests\r\n"));
  opened.reply->probe();
  EXPECT_EQ(opened.take(), "");
  ReplyTerms old = terms();
  old.is_http_1_0 = true;
  Opened none(old);
  none.reply->probe();
  EXPECT_EQ(none.take(), "");
}

TEST(PendingReply, AProbeUnderWayIsNoPartOfTheStream) {
  ReplyTerms small = terms();
  small.stream_buffer_limit_bytes = 1000;
  Opened opened(small);
  opened.reply->probe();
  const auto probe = opened.reply->take();
  opened.reply->start_stream(200, {});
  opened.reply->write("x");
  opened.reply->sent(probe.bytes.size());
  opened.take();
  opened.reply->write("y");
  opened.reply->write("z");
  EXPECT_FALSE(opened.reply->overflowed());
}

TEST(PendingReply, Http10StreamsEndWithTheConnection) {
  ReplyTerms old = terms();
  old.is_http_1_0 = true;
  Opened opened(old);
  opened.reply->start_stream(200, {});
  opened.reply->write("x");
  opened.reply->end(StreamEnd::complete);
  const auto output = opened.reply->take();
  EXPECT_EQ(output.bytes, "HTTP/1.1 200 OK\r\nx-request-id: req_1\r\nconnection: close\r\n\r\nx");
  EXPECT_FALSE(output.keep_alive);
}

TEST(PendingReply, OverflowsWhenThePeerLagsBehind) {
  ReplyTerms small = terms();
  small.stream_buffer_limit_bytes = 1000;
  Opened opened(small);
  opened.reply->start_stream(200, {});
  opened.reply->write(std::string(5000, 'a'));  // one write may be larger than the limit
  EXPECT_FALSE(opened.reply->overflowed());
  opened.take();
  opened.reply->write(std::string(2000, 'a'));
  opened.reply->take();  // under way, not sent
  opened.reply->write("b");
  EXPECT_TRUE(opened.reply->overflowed());
}

TEST(PendingReply, AnOverflowIsToldAlsoWhileAWriteIsUnderWay) {
  ReplyTerms small = terms();
  small.stream_buffer_limit_bytes = 1000;
  Opened opened(small);
  opened.reply->start_stream(200, {});
  opened.reply->take();                         // the connection writes, and its peer does not read
  opened.reply->write(std::string(2000, 'a'));  // told, but nobody takes it
  const int wakes = opened.wakes;
  opened.reply->write("b");
  EXPECT_TRUE(opened.reply->overflowed());
  EXPECT_EQ(opened.wakes, wakes + 1);
}

TEST(PendingReply, AbandonedRequestsGetAnAnswer) {
  Opened opened;
  PendingReply::handle(opened.reply).reset();
  const std::string bytes = opened.take();
  EXPECT_TRUE(bytes.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
  EXPECT_NE(bytes.find("internal_error"), std::string::npos);
  Opened stream;
  auto handle = PendingReply::handle(stream.reply);
  handle->start_stream(200, {});
  handle->write("x");
  handle.reset();
  const auto output = stream.reply->take();
  EXPECT_TRUE(output.finished);
  EXPECT_FALSE(output.keep_alive);
}

TEST(PendingReply, TellsOfADisconnectOnceAndAtOnce) {
  Opened opened;
  int calls = 0;
  opened.reply->on_disconnect([&] { ++calls; });
  opened.reply->disconnect();
  opened.reply->disconnect();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(opened.reply->disconnected());
  opened.reply->on_disconnect([&] { ++calls; });
  EXPECT_EQ(calls, 2);
  opened.reply->write("x");
  EXPECT_EQ(opened.wakes, 0);
}

TEST(PendingReply, ACompleteAnswerKnowsNoDisconnect) {
  Opened opened;
  int calls = 0;
  opened.reply->on_disconnect([&] { ++calls; });
  opened.reply->respond(200, {}, "");
  opened.reply->disconnect();
  opened.reply->on_disconnect([&] { ++calls; });
  EXPECT_EQ(calls, 0);
}

TEST(PendingReply, RefusesHeadersThatSplit) {
  Opened opened;
  EXPECT_THROW(opened.reply->respond(200, {{"a", "b\r\nc: d"}}, ""), CheckFailure);
  EXPECT_THROW(opened.reply->respond(200, {{"a: b", "c"}}, ""), CheckFailure);
}

}  // namespace
}  // namespace cortex

// One request and the reply to it, as handlers see them: no sockets, no Asio. The listener makes both; a handler is
// called on a text thread (its route's at_once: on the listener's) and may answer from any thread, at once or later.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {

// What the gate let through. Header fields are copied before the body is read, so trailers never join them.
struct HttpRequest {
  std::string method;  // "GET", "HEAD", "POST", "DELETE", "OPTIONS"
  std::string path;    // decoded once, without the query
  std::string body;
  std::string path_id;        // what the route's {id} stands for, or empty
  std::string authorization;  // the field's value, or empty
  std::string key_id;    // names the API key without telling it; empty without a right one, which only open routes see
  std::string id;        // x-request-id: the client's if it is well-formed, else "req_" + 24 base62
  bool loopback = true;  // the peer is on this machine
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

enum class StreamEnd {
  complete,  // the connection may serve another request
  failed,    // whole as bytes, but its last event was an error: the connection closes
  cut,       // the connection closes without the stream's end, so that the peer sees that some is missing
};

// Answers one request: either respond() once, or start_stream(), any number of write(), and end(). Any thread; calls
// after the peer has gone are ignored. If the last reference goes without an answer, the peer gets 500.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  // After start_stream() it replaces the stream as long as nothing of it has left, so that an early failure gets its
  // own status. False, and nothing sent, when it is too late for that.
  virtual bool respond(int status, HttpHeaders headers, std::string body) = 0;
  // Sends the status line and headers with the first write; for text/event-stream the listener writes ": ping" comments
  // into silences, the first of which takes the headers along.
  virtual void start_stream(int status, HttpHeaders headers) = 0;
  virtual void write(std::string bytes) = 0;
  virtual void end(StreamEnd how = StreamEnd::complete) = 0;
  // Called once, on the listener's thread, when the peer goes away (or stops reading for the write timeout) before the
  // answer is complete. Called at once if it has gone already.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  virtual bool disconnected() const = 0;
  // For the metrics: which model it is of, and the error that it is or ends in. Before respond(), or end() of a stream.
  virtual void note_model(const std::string& model) = 0;
  virtual void note_error(ErrorCode code) = 0;
};

using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

}  // namespace cortex

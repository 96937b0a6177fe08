// A client that sends bytes as they are, for tests of the listener: no HTTP library would send what these tests need.
// One thread; waits 10 s at most, then fails by an exception.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cortex {

struct RawReply {
  int status = 0;                              // 0: the connection closed without an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  bool complete = false;                       // ended as its framing said
};

class RawClient {
 public:
  explicit RawClient(std::uint16_t port, int receive_buffer_bytes = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval wait{10, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (receive_buffer_bytes > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      throw std::runtime_error("can't connect");
    }
  }
  ~RawClient() {
    if (socket_ >= 0) ::close(socket_);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False when the peer has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  void finish_sending() { ::shutdown(socket_, SHUT_WR); }

  // Closes with a reset.
  void reset() {
    const linger now{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    ::close(socket_);
    socket_ = -1;
  }

  // Everything until the peer closes.
  std::string read_all() {
    while (read_more()) {
    }
    return std::exchange(input_, {});
  }

  // Waits until `text` has come, and takes everything up to its end.
  std::string read_until(std::string_view text) {
    for (;;) {
      const std::size_t at = input_.find(text);
      if (at != input_.npos) return take(at + text.size());
      if (!read_more()) throw std::runtime_error("closed before \"" + std::string(text) + "\" came: " + input_);
    }
  }

  // The next reply; 1xx ones are replies too. `head_only`: it answers HEAD.
  RawReply read_reply(bool head_only = false) {
    RawReply reply;
    while (input_.find("\r\n\r\n") == input_.npos) {
      if (!read_more()) return reply;
    }
    read_head(take(input_.find("\r\n\r\n") + 2), &reply);
    take(2);
    const auto length = reply.headers.find("content-length");
    if (head_only || reply.status < 200 || reply.status == 204) {
      reply.complete = true;
    } else if (length != reply.headers.end()) {
      const std::size_t wanted = std::stoul(length->second);
      while (input_.size() < wanted && read_more()) {
      }
      reply.complete = input_.size() >= wanted;
      reply.body = take(std::min(wanted, input_.size()));
    } else if (reply.headers.count("transfer-encoding") != 0) {
      read_chunks(&reply);
    } else {
      reply.body = read_all();
      reply.complete = true;
    }
    return reply;
  }

  RawReply exchange(std::string_view request, bool head_only = false) {
    send(request);
    return read_reply(head_only);
  }

  // The peer has closed and nothing is left to read.
  bool at_end() { return input_.empty() && !read_more(); }

 private:
  bool read_more() {
    char chunk[65536];
    const auto got = ::recv(socket_, chunk, sizeof(chunk), 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) throw std::runtime_error("nothing came for 10 s");
    if (got <= 0) return false;
    input_.append(chunk, static_cast<std::size_t>(got));
    return true;
  }

  std::string take(std::size_t bytes) {
    std::string taken = input_.substr(0, bytes);
    input_.erase(0, bytes);
    return taken;
  }

  static void read_head(std::string_view head, RawReply* reply) {
    reply->status = std::atoi(std::string(head.substr(head.find(' ') + 1, 3)).c_str());
    head.remove_prefix(head.find("\r\n") + 2);
    while (!head.empty()) {
      const std::string_view line = head.substr(0, head.find("\r\n"));
      std::string name(line.substr(0, line.find(": ")));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      reply->headers[name] = line.substr(line.find(": ") + 2);
      head.remove_prefix(line.size() + 2);
    }
  }

  void read_chunks(RawReply* reply) {
    for (;;) {
      while (input_.find("\r\n") == input_.npos) {
        if (!read_more()) return;
      }
      const std::size_t size = std::stoul(take(input_.find("\r\n") + 2), nullptr, 16);
      while (input_.size() < size + 2) {
        if (!read_more()) return;
      }
      reply->body += take(size);
      take(2);
      if (size == 0) {
        reply->complete = true;
        return;
      }
    }
  }

  int socket_;
  std::string input_;
};

}  // namespace cortex

// A front over the tiny models' text side and an engine that echoes, for tests of the routes: requests go in as bytes.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fakes/echo_engine.h"
#include "fakes/raw_client.h"
#include "fakes/test_paths.h"
#include "http/front.h"

namespace cortex {

class FrontFixture : public testing::Test {
 protected:
  static constexpr TokenId kEndOfTurn = 2;

  ~FrontFixture() override {
    if (front_) front_->stop();
  }

  // How the machine of the tests is doing is no part of them: the guards look once, at the start.
  static FrontOptions quiet_options() {
    FrontOptions options;
    options.guard.sysroot = "/nowhere";
    options.guard.memory_every = options.guard.thermal_every = options.guard.tell_every = std::chrono::hours(1);
    return options;
  }

  std::unique_ptr<Front> make(Engine& engine, std::vector<std::string> keys = {}, int most_under_way = 1) {
    FrontOptions options = quiet_options();
    options.listener.api_keys = std::move(keys);
    options.most_under_way = most_under_way;
    return std::make_unique<Front>(std::move(options), models(), engine, system_clock());
  }

  std::unique_ptr<Front> make_with_vllm_names(Engine& engine) {
    FrontOptions options = quiet_options();
    options.vllm_metrics = true;
    return std::make_unique<Front>(std::move(options), models(), engine, system_clock());
  }

  // "chat" (llama, 512 tokens of context, 484 in its vocabulary) and "embed" (bert, 320, 64 dimensions).
  static const Models& models() {
    static const Models models(real_file_system(), {{"chat", test_data("models/llama").string()},
                                                    {"embed", test_data("models/bert-mean").string()}});
    return models;
  }

  static EngineStatus ready_status() {
    EngineStatus status;
    status.state = EngineState::idle;
    status.last_tick = std::chrono::steady_clock::now();
    for (const auto& served : models().all()) {
      ModelStatus model;
      model.name = served.name;
      model.state = ModelState::ready;
      status.models.push_back(model);
    }
    return status;
  }

  RawReply get(const std::string& path, const std::string& headers = "") {
    return RawClient(front_->port())
        .exchange(fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers));
  }
  RawReply del(const std::string& path, const std::string& headers = "") {
    return RawClient(front_->port())
        .exchange(fmt::format("DELETE {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers));
  }
  RawReply post(const std::string& path, const std::string& body, const std::string& headers = "") {
    return RawClient(front_->port()).exchange(request(path, body, headers));
  }
  static std::string request(const std::string& path, const std::string& body, const std::string& headers = "") {
    return fmt::format(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{}", path,
        body.size(), headers, body);
  }
  // The events of a stream, each with its "data: ".
  static std::vector<std::string> events(std::string body) {
    std::vector<std::string> found;
    while (!body.empty()) {
      const auto end = body.find("\n\n");
      found.push_back(body.substr(0, end));
      body.erase(0, end == std::string::npos ? end : end + 2);
    }
    return found;
  }

  // What the engine says: tokens, the last of which ends a turn.
  std::vector<TokenId> reply_ = {100, 101, 102, kEndOfTurn};
  std::unique_ptr<Front> front_;  // outlives the engine, which still answers it
  EchoEngine engine_{{.models = {"chat", "embed"}, .reply = [this](const GenerateRequest&) { return reply_; }}};
};

}  // namespace cortex

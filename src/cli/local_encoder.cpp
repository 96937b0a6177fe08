#include <chrono>
#include <future>
#include <utility>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/thread_pool.h"
#include "cli/command_line.h"
#include "cli/interrupt.h"
#include "cli/text_encoder.h"
#include "engine/local_engine.h"
#include "service/admission.h"
#include "service/embed.h"
#include "service/models.h"
#include "service/rerank.h"

namespace cortex {
namespace {

// One call at a time; but the call before may not have left yet when its reply is here.
constexpr int kMostUnderWay = 2;

// The reply when it is there; the sink may outlive the wait.
template <typename Reply, typename Start>
Reply await(Start start) {
  constexpr auto kLook = std::chrono::milliseconds(50);
  const auto promise = std::make_shared<std::promise<Reply>>();
  std::future<Reply> future = promise->get_future();
  start([promise](Reply reply) { promise->set_value(std::move(reply)); });
  while (future.wait_for(kLook) != std::future_status::ready) InterruptWatch::check();
  Reply reply = future.get();
  if (reply.error) throw *reply.error;
  return reply;
}

class LocalEncoder : public TextEncoder {
 public:
  LocalEncoder(LocalEngineOptions options, EncodeChoices choices)
      : choices_(std::move(choices)),
        models_(real_file_system(), options.models),
        engine_(std::make_unique<LocalEngine>(std::move(options))) {
    wait_until_loaded(*engine_);
  }
  LocalEncoder(const LocalEncoder&) = delete;
  LocalEncoder& operator=(const LocalEncoder&) = delete;
  // What still runs after an interrupt ends with the engine, while those that hear of it are there.
  ~LocalEncoder() override { engine_.reset(); }

  std::vector<std::vector<float>> embed(const std::vector<std::string>& texts) override {
    EmbedRequest request;
    request.model = choices_.model;
    request.inputs.assign(texts.begin(), texts.end());
    request.param = "texts";
    request.normalize = choices_.normalize;
    request.truncation.allowed = choices_.truncate;
    return await<EmbedReply>([&](EmbedSink sink) { embed_.embed(request, std::move(sink)); }).vectors;
  }

  std::vector<float> score(const std::string& query, const std::vector<std::string>& texts) override {
    RerankRequest request;
    request.model = choices_.model;
    request.query = query;
    request.texts = texts;
    request.truncation.allowed = choices_.truncate;
    const auto reply = await<RerankReply>([&](RerankSink sink) { rerank_.rerank(request, std::move(sink)); });
    std::vector<float> scores(texts.size());
    for (const RerankResult& result : reply.results) scores[static_cast<std::size_t>(result.index)] = result.score;
    return scores;
  }

 private:
  EncodeChoices choices_;
  Models models_;
  std::unique_ptr<LocalEngine> engine_;
  Admission admission_{*engine_, kMostUnderWay};
  EmbedCache cache_{0};  // off: few texts come twice, and none stays
  ThreadPool text_threads_{1};
  EmbedService embed_{models_, admission_, cache_, text_threads_, system_clock()};
  RerankService rerank_{models_, admission_, cache_, text_threads_, system_clock()};
};

}  // namespace

std::unique_ptr<TextEncoder> make_local_encoder(EngineOptions options, EncodeChoices choices) {
  LocalEngineOptions local;
  static_cast<EngineOptions&>(local) = std::move(options);
  return std::make_unique<LocalEncoder>(std::move(local), std::move(choices));
}

}  // namespace cortex

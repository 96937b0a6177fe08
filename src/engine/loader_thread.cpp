#include "engine/loader_thread.h"

#include <utility>

#include "engine/failure.h"

namespace cortex {
namespace {

constexpr double kProgressStep = 0.01;

}  // namespace

LoaderThread::LoaderThread(ModelLoader* loader, LoadAnswers answers) : loader_(loader), answers_(std::move(answers)) {
  thread_ = std::thread([this] { run(); });
}

LoaderThread::~LoaderThread() {
  stopping_ = true;
  loads_.close();
  thread_.join();
}

void LoaderThread::load(std::size_t model, ModelConfig config, LoadTerms terms) {
  loads_.send({model, std::move(config), std::move(terms)});
}

void LoaderThread::run() {
  while (const auto load = loads_.receive()) {
    if (stopping_) return;
    try {
      run(*load);
    } catch (...) {  // no memory for a message to the engine thread
      lost_an_answer_ = true;
    }
  }
}

void LoaderThread::run(const Load& load) {
  double told = 0.0;
  const auto progress = [&](double fraction) {
    if (stopping_) throw Error(ErrorCode::engine_unavailable, "the engine is shutting down");
    if (fraction < told + kProgressStep) return;
    told = fraction;
    answers_.progress(load.model, fraction);
  };
  LoadOutcome outcome;
  try {
    outcome = loader_->load(load.config, load.terms, progress);
  } catch (...) {
    outcome = caught_error();
  }
  answers_.loaded(load.model, std::move(outcome));
}

}  // namespace cortex

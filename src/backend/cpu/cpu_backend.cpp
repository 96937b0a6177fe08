#include "backend/cpu/cpu_backend.h"

#include <fmt/core.h>

#include "backend/cpu/decoder.h"
#include "backend/cpu/encoder.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/model_needs.h"
#include "backend/cpu/thread_team.h"
#include "base/error.h"
#include "base/log.h"

namespace cortex {
namespace {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options)
      : arithmetic_(options.exact ? Arithmetic::exact : Arithmetic::fast),
        threads_(ThreadTeam::size_of(options.threads)) {
    kernels();  // those that don't exist are said now
  }

  std::string_view name() const override { return "cpu"; }
  std::string_view device() const override { return "cpu"; }
  // Everything that a spec can say is here.
  std::optional<std::string> lacks(const DecoderSpec&) const override { return std::nullopt; }
  std::optional<std::string> lacks(const EncoderSpec&) const override { return std::nullopt; }

  std::optional<std::string> lacks(const DecoderHolding& holding) const override {
    if (arithmetic_ == Arithmetic::fast) return std::nullopt;
    if (holding.weights != WeightPrecision::as_given) return "weights of fewer bits with exact products";
    if (holding.kv_8_bits) return "8-bit KV with exact products";
    return std::nullopt;
  }

  DecoderNeeds needs(const DecoderSpec& spec, const DecoderWeights& weights,
                     const DecoderHolding& holding) const override {
    return decoder_needs(spec, weights, holding, arithmetic_, threads_);
  }
  EncoderNeeds needs(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision precision) const override {
    return encoder_needs(spec, weights, precision, arithmetic_);
  }

  std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const DecoderHolding& holding, const LoadProgress& progress) override {
    require(holding);
    return std::make_unique<CpuDecoder>(spec, weights, holding, progress, team(), arithmetic_);
  }
  std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights,
                                       WeightPrecision precision, const LoadProgress& progress) override {
    require({.weights = precision});
    return std::make_unique<CpuEncoder>(spec, weights, precision, progress, team(), arithmetic_);
  }

 private:
  void require(const DecoderHolding& holding) const {
    const auto missing = lacks(holding);
    if (missing) throw Error(ErrorCode::not_supported, fmt::format("backend cpu lacks {}", *missing));
  }

  // One for all models, since two would fight for the cores; started for the first.
  const std::shared_ptr<ThreadTeam>& team() {
    if (!team_) {
      team_ = std::make_shared<ThreadTeam>(threads_);
      log_info(fmt::format("backend cpu: {} threads, {} kernels{}", threads_, kernels().name,
                           arithmetic_ == Arithmetic::exact ? ", exact" : ""));
    }
    return team_;
  }

  const Arithmetic arithmetic_;
  const int threads_;
  std::shared_ptr<ThreadTeam> team_;  // the loading thread's
};

}  // namespace

std::unique_ptr<Backend> open_cpu(const BackendOptions& options) { return std::make_unique<CpuBackend>(options); }

}  // namespace cortex

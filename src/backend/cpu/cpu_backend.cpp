#include "backend/cpu/cpu_backend.h"

#include <fmt/core.h>

#include "backend/cpu/decoder.h"
#include "backend/cpu/encoder.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/thread_team.h"
#include "base/log.h"

namespace cortex {
namespace {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options)
      : arithmetic_(options.exact ? Arithmetic::exact : Arithmetic::fast),
        team_(std::make_shared<ThreadTeam>(options.threads)) {
    log_info(fmt::format("backend cpu: {} threads, {} kernels{}", team_->size(), kernels().name,
                         options.exact ? ", exact" : ""));
  }

  std::string_view name() const override { return "cpu"; }
  std::string_view device() const override { return "cpu"; }
  // Everything that a spec can say is here.
  std::optional<std::string> lacks(const DecoderSpec&) const override { return std::nullopt; }
  std::optional<std::string> lacks(const EncoderSpec&) const override { return std::nullopt; }

  std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const LoadProgress& progress) override {
    return std::make_unique<CpuDecoder>(spec, weights, progress, team_, arithmetic_);
  }
  std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights,
                                       const LoadProgress& progress) override {
    return std::make_unique<CpuEncoder>(spec, weights, progress, team_, arithmetic_);
  }

 private:
  const Arithmetic arithmetic_;
  const std::shared_ptr<ThreadTeam> team_;  // one for all models: two would fight for the cores
};

}  // namespace

std::unique_ptr<Backend> open_cpu(const BackendOptions& options) { return std::make_unique<CpuBackend>(options); }

}  // namespace cortex

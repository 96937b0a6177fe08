// The module's entry: MLX on the best device of this machine.
#include <fmt/core.h>
#include <mlx/backend/cuda/cuda.h>
#include <mlx/backend/metal/metal.h>
#include <mlx/mlx.h>
#ifndef __APPLE__
#include <cblas.h>
#endif

#include <memory>
#include <string>
#include <utility>

#include "backend/mlx/decoder.h"
#include "backend/mlx/encoder.h"
#include "backend/mlx_needs.h"
#include "backend/module.h"
#include "base/error.h"

namespace cortex {
namespace {

std::string_view device_of_this_machine() {
  if (mx::metal::is_available()) return "metal";
  if (mx::cu::is_available()) return "cuda";
  return "cpu";
}

// Which library multiplies matrices on the CPU. Asking it by its own names also keeps it linked ahead of the reference
// BLAS that MLX's wheel carries, which is 27 times slower.
std::string blas_config() {
#ifdef __APPLE__
  return "Accelerate";
#else
  return openblas_get_config();
#endif
}

void set_blas_threads(int threads) {
#ifndef __APPLE__
  if (threads > 0) openblas_set_num_threads(threads);
#endif
}

class MlxBackend final : public Backend {
 public:
  explicit MlxBackend(const BackendOptions& options) : device_(device_of_this_machine()) {
    mx::set_default_device(device_ == "cpu" ? mx::Device::cpu : mx::Device::gpu);
    mx::set_cache_limit(kCacheBytes);
    set_blas_threads(options.threads);
  }

  std::string_view name() const override { return "mlx"; }
  std::string_view device() const override { return device_; }
  std::optional<std::string> lacks(const DecoderSpec&) const override { return std::nullopt; }
  std::optional<std::string> lacks(const EncoderSpec&) const override { return std::nullopt; }

  std::optional<std::string> lacks(const DecoderHolding& holding) const override { return mlx_lacks(holding); }

  DecoderNeeds needs(const DecoderSpec& spec, const DecoderWeights& weights,
                     const DecoderHolding& holding) const override {
    return mlx_needs(spec, weights, holding);
  }
  EncoderNeeds needs(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision) const override {
    return mlx_needs(spec, weights);
  }

  std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const DecoderHolding& holding, const LoadProgress& progress) override {
    require(holding);
    return loaded<MlxDecoder>(spec, weights, numeric_class(), progress);
  }

  std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights,
                                       WeightPrecision precision, const LoadProgress& progress) override {
    require({.weights = precision});
    return loaded<MlxEncoder>(spec, weights, progress);
  }

 private:
  void require(const DecoderHolding& holding) const {
    const auto missing = lacks(holding);
    if (missing) throw Error(ErrorCode::not_supported, fmt::format("backend mlx lacks {}", *missing));
  }

  template <typename Model, typename... Args>
  std::unique_ptr<Model> loaded(const Args&... args) const {
    try {
      return std::make_unique<Model>(args...);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& failure) {
      throw Error(ErrorCode::model_failed, fmt::format("loading into MLX: {}", failure.what()));
    }
  }

  std::string numeric_class() const {
    std::string name = fmt::format("mlx {} {} float32", mx::version(), device_);
    if (device_ == "cpu") name += fmt::format(", {}", blas_config());
    return name;
  }

  std::string_view device_;
};

}  // namespace
}  // namespace cortex

cortex::Backend* cortex_open_mlx(const cortex::BackendOptions* options) {
  try {
    return new cortex::MlxBackend(*options);
  } catch (const std::exception& failure) {
    throw cortex::Error(cortex::ErrorCode::invalid_option, fmt::format("backend mlx: {}", failure.what()));
  }
}

#include "service/admission.h"

#include <gtest/gtest.h>

#include "base/try_later.h"
#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() {
    EngineStatus status;
    status.state = EngineState::idle;
    engine_.set_status(status);
    inject("memory", "0.1");
    inject("thermal", "0.1");
  }

  void inject(const std::string& name, const std::string& value) { folder_.write(name, value); }
  void turn(std::chrono::milliseconds time) {
    for (; time > 0ms; time -= 250ms) {
      clock_.advance(250ms);
      guard_.turn();
    }
  }
  GuardOptions options() {
    GuardOptions options;
    options.sysroot = folder_.path() / "no-root";
    options.injected = {{"memory", folder_.path() / "memory"}, {"thermal", folder_.path() / "thermal"}};
    return options;
  }
  // The refusal's code and how long to wait; nothing when it was let in.
  std::optional<std::pair<ErrorCode, double>> refusal(std::size_t tokens) {
    try {
      admission_.enter("m").require_short(tokens);
      return {};
    } catch (const TryLater& error) {
      return std::pair(error.code(), error.wait_s());
    }
  }

  TemporaryFolder folder_;
  FakeClock clock_;
  EchoEngine engine_;
  Guard guard_{options(), clock_, [] { return EngineLoad(); }, [](int, ErrorCode) {}};
  Admission admission_{engine_, 10, &guard_};
};

TEST_F(AdmissionTest, AFullQueueSaysHowLongItTakes) {
  turn(1s);
  EngineStatus status = engine_.status();
  status.running = 2;
  engine_.set_status(status);
  std::vector<Admission::Ticket> tickets;
  for (int i = 0; i < 10; ++i) tickets.push_back(admission_.enter("m"));
  EXPECT_EQ(refusal(1), std::pair(ErrorCode::queue_full, 1.0)) << "nothing is known of how long one takes";
  tickets.back().computed_for(4.0);
  EXPECT_EQ(refusal(1), std::pair(ErrorCode::queue_full, 8 * 4.0 / 2));
  const Admission::Ticket copy = tickets.back();
  tickets.pop_back();
  EXPECT_EQ(refusal(1)->first, ErrorCode::queue_full) << "one is under way as long as a copy of its ticket lives";
  tickets.pop_back();
  EXPECT_FALSE(refusal(1));
  Admission::Ticket().computed_for(1.0);  // of nobody
}

TEST_F(AdmissionTest, WithoutPressureAllAreLetIn) {
  turn(1s);
  EXPECT_FALSE(refusal(1'000'000));
}

TEST_F(AdmissionTest, AtLevel1AllAreLetIn) {
  inject("memory", "0.85");
  turn(1s);
  EXPECT_EQ(guard_.status().level, 1);
  EXPECT_FALSE(refusal(1'000'000));
}

TEST_F(AdmissionTest, AtLevel2LongPromptsAreRefused) {
  inject("memory", "0.91");
  turn(1s);
  EXPECT_FALSE(refusal(Admission::kLongPromptTokens));
  EXPECT_EQ(refusal(Admission::kLongPromptTokens + 1), std::pair(ErrorCode::memory_pressure, 10.0));
}

TEST_F(AdmissionTest, FromLevel3OnAllAreRefusedForWhatIsLeftOfTheDwell) {
  inject("thermal", "0.96");
  turn(1s);
  EXPECT_EQ(refusal(1), std::pair(ErrorCode::thermal_throttled, 30.0));
  inject("thermal", "0.1");
  turn(26s);
  const auto late = refusal(1);
  ASSERT_TRUE(late);
  EXPECT_LT(late->second, 7.0);
  EXPECT_GE(late->second, 4.0);
  turn(10s);
  EXPECT_FALSE(refusal(1));
  EXPECT_TRUE(refusal(2000));
}

TEST_F(AdmissionTest, TheWaitIsAtLeastASecond) {
  inject("memory", "0.96");
  turn(1s);
  inject("memory", "0.1");
  turn(10s);
  ASSERT_EQ(guard_.status().level, 3);
  EXPECT_EQ(refusal(1), std::pair(ErrorCode::memory_pressure, 1.0));
}

}  // namespace
}  // namespace cortex

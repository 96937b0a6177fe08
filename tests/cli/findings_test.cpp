#include "cli/findings.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/descriptor.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Machine good_machine() {
  Machine machine;
  machine.processor = {"Some CPU", {"avx", "avx2"}};
  machine.cores = machine.usable_cores = 8;
  machine.memory_bytes = 16 * kGiB;
  machine.available_bytes = 8 * kGiB;
  machine.open_files = machine.most_open_files = 65536;
  return machine;
}

TEST(Findings, AGoodMachineNeedsNothing) {
  const Machine machine = good_machine();
  for (const Finding& finding : {judge_processor(machine), judge_cores(machine), judge_memory(machine),
                                 judge_gpus(machine), judge_open_files(machine)}) {
    EXPECT_EQ(finding.status, FindingStatus::ok) << finding.message;
    EXPECT_EQ(finding.next, "") << finding.check;
  }
}

TEST(Findings, WarnWithANextStep) {
  Machine machine = good_machine();
  machine.processor.instructions = {"avx"};
  machine.core_quota = 1.5;
  machine.available_bytes = kGiB / 2;
  machine.open_files = 256;
  for (const Finding& finding :
       {judge_processor(machine), judge_cores(machine), judge_memory(machine), judge_open_files(machine)}) {
    EXPECT_EQ(finding.status, FindingStatus::warning) << finding.message;
    EXPECT_NE(finding.next, "") << finding.check;
  }
  EXPECT_THAT(judge_cores(machine).next, HasSubstr("--threads 1"));
  EXPECT_THAT(judge_open_files(machine).next, HasSubstr("ulimit -n 4096"));
}

TEST(Findings, AModelHasToLoadAndFit) {
  InventoryEntry entry;
  entry.name = "tiny";
  entry.weight_bytes = kGiB;
  EXPECT_EQ(judge_model(entry, good_machine()).status, FindingStatus::ok);
  entry.weight_bytes = 17 * kGiB;
  EXPECT_EQ(judge_model(entry, good_machine()).status, FindingStatus::problem);
  entry.weight_bytes = kGiB;
  entry.problem = "has no config.json";
  EXPECT_EQ(judge_model(entry, good_machine()).status, FindingStatus::problem);
  EXPECT_THAT(judge_model(entry, good_machine()).message, HasSubstr("tiny: has no config.json"));
}

TEST(Findings, ALowHardLimitIsNotAnsweredWithItself) {
  Machine machine = good_machine();
  machine.open_files = machine.most_open_files = 64;
  EXPECT_EQ(judge_open_files(machine).status, FindingStatus::warning);
  EXPECT_THAT(judge_open_files(machine).next, HasSubstr("hard limit"));
}

TEST(Findings, AModelIsNamedOnce) {
  InventoryEntry entry;
  entry.name = "/x/llama";
  entry.problem = "/x/llama: no such file or folder";
  EXPECT_EQ(judge_model(entry, good_machine()).message, entry.problem);
}

TEST(Findings, SomeModelHasToBeHere) {
  EXPECT_EQ(judge_inventory({}).status, FindingStatus::problem);
  EXPECT_THAT(judge_inventory({}).next, HasSubstr("cortex pull smollm2"));
  InventoryEntry bad, good;
  bad.problem = "x";
  good.name = "acme/tiny";
  EXPECT_EQ(judge_inventory({bad}).status, FindingStatus::problem);
  EXPECT_EQ(judge_inventory({bad, good}).status, FindingStatus::ok);
  EXPECT_THAT(judge_inventory({bad, good}).next, HasSubstr("--model acme/tiny"));
}

TEST(Findings, ABackendIsOpened) {
  EXPECT_EQ(look_at_backend("cpu", good_machine()).status, FindingStatus::ok);
  EXPECT_THAT(look_at_backend("cpu", good_machine()).message, HasSubstr("as asked"));
  EXPECT_EQ(look_at_backend("abacus", good_machine()).status, FindingStatus::problem);
}

TEST(Findings, ATakenPortIsAProblem) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(socket.get(), 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const Finding taken = look_at_port("127.0.0.1", ntohs(address.sin_port));
  EXPECT_EQ(taken.status, FindingStatus::problem);
  EXPECT_THAT(taken.next, HasSubstr("--port"));
  EXPECT_EQ(look_at_port("127.0.0.1", 0).status, FindingStatus::ok);
  EXPECT_EQ(look_at_port("example.org", 0).status, FindingStatus::problem);
}

TEST(Findings, AModelFitsOrSaysWhatWouldMakeIt) {
  MemoryEstimate estimate;
  estimate.fits = true;
  estimate.weight_bytes = std::uint64_t{100} << 20;
  estimate.kv_bytes = std::uint64_t{20} << 20;
  estimate.activation_bytes = std::uint64_t{8} << 20;
  estimate.grammar_bytes = std::uint64_t{5} << 20;
  estimate.budget_bytes = std::uint64_t{1} << 30;
  estimate.weights = "as_given";
  estimate.kv = "bf16";
  estimate.blocks = 40;
  const Finding fits = judge_fit("chat", estimate);
  EXPECT_EQ(fits.status, FindingStatus::ok);
  EXPECT_THAT(fits.message, HasSubstr("40 blocks"));
  EXPECT_THAT(fits.message, HasSubstr("chat: 133.0 MiB of"));
  EXPECT_THAT(fits.message, HasSubstr("grammars 5.0 MiB"));
  EXPECT_EQ(fits.next, "");
  estimate.fits = false;
  estimate.advice = {"--memory-budget 128MiB", "a smaller model"};
  const Finding too_large = judge_fit("chat", estimate);
  EXPECT_EQ(too_large.status, FindingStatus::problem);
  EXPECT_THAT(too_large.message, HasSubstr("more than"));
  EXPECT_EQ(too_large.next, "--memory-budget 128MiB; or a smaller model");
}

TEST(Findings, OthersNeedAKey) {
  const TemporaryFolder folder;
  folder.write("keys", "secret-key\n");
  folder.write("none", "");
  const Environment bare = [](const char*) { return nullptr; };
  const std::string keys = (folder.path() / "keys").string(), none = (folder.path() / "none").string();
  for (const char* address : {"127.0.0.1", "::1", "localhost"}) {
    EXPECT_EQ(look_at_access(address, "", "", bare).status, FindingStatus::ok) << address;
  }
  EXPECT_EQ(look_at_access("0.0.0.0", "", "", bare).status, FindingStatus::problem);
  EXPECT_EQ(look_at_access("0.0.0.0", keys, "", bare).status, FindingStatus::ok);
  EXPECT_EQ(look_at_access("0.0.0.0", "", keys, bare).status, FindingStatus::ok);
  EXPECT_EQ(look_at_access("127.0.0.1", none, "", bare).status, FindingStatus::problem);
  const Environment with_keys = [](const char* name) {
    return name == std::string("CORTEX_API_KEYS") ? "long-enough" : nullptr;
  };
  EXPECT_EQ(look_at_access("0.0.0.0", "", "", with_keys).status, FindingStatus::ok);
}

TEST(Findings, AFolderMayBeMade) {
  const TemporaryFolder folder;
  EXPECT_EQ(look_at_folder("state", folder.path() / "not/yet", "--state-dir").status, FindingStatus::ok);
  folder.write("file", "x");
  const Finding finding = look_at_folder("state", folder.path() / "file" / "below", "--state-dir");
  EXPECT_EQ(finding.status, FindingStatus::problem);
  EXPECT_THAT(finding.next, HasSubstr("--state-dir"));
  EXPECT_EQ(look_at_folder("state", "", "--state-dir").status, FindingStatus::problem);
}

}  // namespace
}  // namespace cortex

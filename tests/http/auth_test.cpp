#include "http/auth.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

const std::vector<std::string> kKeys = {"first-key", "second-key"};

TEST(ApiKeys, TakesBearerInAnyCaseAndTheOtherField) {
  const ApiKeys keys(kKeys);
  EXPECT_TRUE(keys.required());
  const std::string first = keys.check("Bearer first-key", "");
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(keys.check("bearer first-key", ""), first);
  EXPECT_EQ(keys.check("BEARER  first-key", ""), first);
  EXPECT_EQ(keys.check("", "first-key"), first);
  EXPECT_EQ(keys.check("Bearer wrong", "first-key"), first);
  EXPECT_NE(keys.check("Bearer second-key", ""), first);
}

TEST(ApiKeys, TheIdStaysAndHidesTheKey) {
  EXPECT_EQ(ApiKeys(kKeys).check("Bearer second-key", ""),
            ApiKeys(std::vector<std::string>{"second-key"}).check("", "second-key"));
  EXPECT_EQ(ApiKeys(kKeys).check("Bearer second-key", "").find("key"), std::string::npos);
}

TEST(ApiKeys, RefusesEverythingElse) {
  const ApiKeys keys(kKeys);
  for (const std::string value : {"", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-key2", "Bearer first-key ",
                                  "first-key", "Basic first-key", "Bearer\tfirst-key", "bearerfirst-key"}) {
    try {
      keys.check(value, "");
      ADD_FAILURE() << value;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_api_key);
      EXPECT_NE(error.message().find("API key"), std::string::npos);
    }
  }
  EXPECT_THROW(keys.check("Bearer " + std::string(10'000, 'a'), ""), Error);
  EXPECT_THROW(keys.check("", "wrong"), Error);
}

TEST(ApiKeys, NoneAreRequiredWithoutAny) { EXPECT_FALSE(ApiKeys().required()); }

}  // namespace
}  // namespace cortex

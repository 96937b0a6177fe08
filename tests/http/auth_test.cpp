#include "http/auth.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/error.h"

namespace cortex {
namespace {

const std::vector<std::string> kKeys = {"first-key", "second-key"};
const std::vector<std::string> kAdminKeys = {"admin-key"};
constexpr bool kHere = true;

std::string check(const ApiKeys& keys, std::string_view authorization, std::string_view api_key,
                  Access access = Access::key, bool here = kHere) {
  return keys.check(access, here, authorization, api_key);
}

std::optional<ErrorCode> refusal(const ApiKeys& keys, std::string_view api_key, Access access, bool here = kHere) {
  try {
    keys.check(access, here, "", api_key);
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

TEST(ApiKeys, TakesBearerInAnyCaseAndTheOtherField) {
  const ApiKeys keys(kKeys);
  EXPECT_TRUE(keys.required());
  const std::string first = check(keys, "Bearer first-key", "");
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(check(keys, "bearer first-key", ""), first);
  EXPECT_EQ(check(keys, "BEARER  first-key", ""), first);
  EXPECT_EQ(check(keys, "", "first-key"), first);
  EXPECT_EQ(check(keys, "Bearer wrong", "first-key"), first);
  EXPECT_NE(check(keys, "Bearer second-key", ""), first);
}

TEST(ApiKeys, TheIdStaysAndHidesTheKey) {
  EXPECT_EQ(check(ApiKeys(kKeys), "Bearer second-key", ""),
            check(ApiKeys(std::vector<std::string>{"second-key"}), "", "second-key"));
  EXPECT_EQ(check(ApiKeys(kKeys), "Bearer second-key", "").find("key"), std::string::npos);
}

TEST(ApiKeys, RefusesEverythingElse) {
  const ApiKeys keys(kKeys);
  for (const std::string value : {"", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-key2", "Bearer first-key ",
                                  "first-key", "Basic first-key", "Bearer\tfirst-key", "bearerfirst-key"}) {
    try {
      check(keys, value, "");
      ADD_FAILURE() << value;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_api_key);
      EXPECT_NE(error.message().find("API key"), std::string::npos);
    }
  }
  EXPECT_THROW(check(keys, "Bearer " + std::string(10'000, 'a'), ""), Error);
  EXPECT_THROW(check(keys, "", "wrong"), Error);
}

TEST(ApiKeys, WhereAnybodyMayAskAWrongKeyIsNone) {
  const ApiKeys keys(kKeys);
  EXPECT_EQ(check(keys, "", "wrong", Access::anybody), "");
  EXPECT_EQ(check(keys, "", "", Access::anybody), "");
  EXPECT_EQ(check(keys, "", "first-key", Access::anybody).size(), 16u);
}

TEST(ApiKeys, AnAdminKeyIsAKeyForEverything) {
  const ApiKeys keys(kKeys, kAdminKeys);
  for (const bool here : {true, false}) {
    EXPECT_FALSE(refusal(keys, "admin-key", Access::admin, here));
    EXPECT_FALSE(refusal(keys, "admin-key", Access::key, here));
    EXPECT_EQ(refusal(keys, "first-key", Access::admin, here), ErrorCode::insufficient_scope);
    EXPECT_EQ(refusal(keys, "", Access::admin, here), ErrorCode::invalid_api_key);
    EXPECT_EQ(refusal(keys, "wrong", Access::admin, here), ErrorCode::invalid_api_key);
  }
  const ApiKeys both(kKeys, std::vector<std::string>{"first-key"});
  EXPECT_FALSE(refusal(both, "first-key", Access::admin));
}

TEST(ApiKeys, AdminKeysAloneAreRequiredOfAll) {
  const ApiKeys keys({}, kAdminKeys);
  EXPECT_TRUE(keys.required());
  EXPECT_EQ(refusal(keys, "", Access::key), ErrorCode::invalid_api_key);
}

TEST(ApiKeys, WithoutAdminKeysNobodyIsAnAdmin) {
  const ApiKeys keys(kKeys);
  EXPECT_EQ(refusal(keys, "first-key", Access::admin), ErrorCode::insufficient_scope);
}

TEST(ApiKeys, WithoutAnyWhoIsHereIsAnAdmin) {
  EXPECT_FALSE(ApiKeys().required());
  EXPECT_FALSE(refusal(ApiKeys(), "", Access::key, !kHere));
  EXPECT_FALSE(refusal(ApiKeys(), "", Access::admin, kHere));
  EXPECT_EQ(refusal(ApiKeys(), "", Access::admin, !kHere), ErrorCode::insufficient_scope);
}

}  // namespace
}  // namespace cortex

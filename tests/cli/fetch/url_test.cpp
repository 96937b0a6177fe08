#include "cli/fetch/url.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

TEST(Url, IsTakenApart) {
  const Url url = parse_url("https://Hub.Example/api/models/a/b?blobs=true");
  EXPECT_EQ(url.scheme, "https");
  EXPECT_EQ(url.host, "hub.example");
  EXPECT_EQ(url.port, 443);
  EXPECT_EQ(parse_url("http://127.0.0.1:8080").port, 8080);
  EXPECT_EQ(parse_url("http://[::1]:1/").host, "[::1]");
}

TEST(Url, RefusesOthers) {
  for (const char* text : {"", "hub", "ftp://hub/x", "file:///etc/passwd", "http://", "http://h:99999/",
                           "http://user:secret@hub/", "http://user@hub/", "http://hub/a b"}) {
    EXPECT_THROW(parse_url(text), Error) << text;
  }
}

TEST(Url, DoesNotRepeatAPassword) {
  try {
    parse_url("http://user:secret@hub/");
    FAIL() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.message().find("secret"), std::string::npos) << error.message();
  }
}

TEST(Redirect, IsResolved) {
  const Url base = parse_url("https://hub.example/a/b/resolve/main/x");
  EXPECT_EQ(follow_redirect(base, "/api/y").text, "https://hub.example/api/y");
  EXPECT_EQ(follow_redirect(base, "z").text, "https://hub.example/a/b/resolve/main/z");
  EXPECT_EQ(follow_redirect(base, "//cdn.example/y").text, "https://cdn.example/y");
  EXPECT_EQ(follow_redirect(base, "https://cdn.example:444/y").port, 444);
}

TEST(Redirect, NeverLeavesEncryptionOrHttp) {
  const Url base = parse_url("https://hub.example/x");
  for (const char* location : {"http://hub.example/x", "http://127.0.0.1/x", "file:///etc/passwd",
                               "ftp://hub.example/x", "https://user:pw@hub.example/x"}) {
    EXPECT_THROW(follow_redirect(base, location), Error) << location;
  }
  EXPECT_EQ(follow_redirect(parse_url("http://hub.example/x"), "https://hub.example/x").scheme, "https");
}

TEST(Secret, StaysAtItsOrigin) {
  const Url home = parse_url("https://hub.example");
  EXPECT_TRUE(may_carry_secret(home, parse_url("https://hub.example/any/path")));
  EXPECT_TRUE(may_carry_secret(home, parse_url("https://HUB.example:443/")));
  for (const char* other : {"https://hub.example:444/", "https://cdn.hub.example/", "https://hub.example.evil/",
                            "http://hub.example/", "https://example/", "https://hub.example./"}) {
    EXPECT_FALSE(may_carry_secret(home, parse_url(other))) << other;
  }
}

TEST(Secret, IsUnencryptedOnThisMachineOnly) {
  const Url local = parse_url("http://127.0.0.1:5000");
  EXPECT_TRUE(may_carry_secret(local, parse_url("http://127.0.0.1:5000/x")));
  EXPECT_FALSE(may_carry_secret(local, parse_url("http://127.0.0.1:5001/x")));
  EXPECT_FALSE(may_carry_secret(local, parse_url("http://localhost:5000/x")));
  const Url mirror = parse_url("http://mirror.example");
  EXPECT_FALSE(may_carry_secret(mirror, mirror));
}

TEST(Secret, ANameIsNotThisMachine) {
  for (const char* text : {"http://127.0.0.1.evil.example", "http://127.evil.example", "http://localhost.example",
                           "http://[::2]", "http://128.0.0.1"}) {
    const Url url = parse_url(text);
    EXPECT_FALSE(url.is_loopback()) << text;
    EXPECT_FALSE(may_carry_secret(url, url)) << text;
  }
  for (const char* text : {"http://127.0.0.1", "http://127.1.2.3:80", "http://LOCALHOST", "http://[::1]"}) {
    EXPECT_TRUE(parse_url(text).is_loopback()) << text;
  }
}

TEST(Redirect, DoesNotRepeatASignature) {
  try {
    follow_redirect(parse_url("https://hub.example/x"), "http://cdn.example/x?signature=secret");
    FAIL() << "it was followed";
  } catch (const Error& error) {
    EXPECT_EQ(error.message().find("secret"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("cdn.example"), std::string::npos) << error.message();
  }
}

TEST(PercentEncoding, KeepsPaths) {
  EXPECT_EQ(percent_encoded("sub/model-1.safetensors"), "sub/model-1.safetensors");
  EXPECT_EQ(percent_encoded("a b?#%ü"), "a%20b%3F%23%25%C3%BC");
}

}  // namespace
}  // namespace cortex

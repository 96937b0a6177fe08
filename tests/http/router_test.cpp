#include "http/router.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

Route route(std::string method, std::string pattern, Dialect dialect = Dialect::native) {
  return {std::move(method), std::move(pattern), [](HttpRequest, std::shared_ptr<HttpReply>) {}, dialect};
}

Router sample() {
  std::vector<Route> routes = {route("GET", "/healthz"),
                               route("POST", "/chat"),
                               route("GET", "/chat/{id}"),
                               route("DELETE", "/chat/{id}"),
                               route("GET", "/v1/models", Dialect::openai),
                               route("GET", "/v1/models/{id}", Dialect::openai)};
  routes[0].open = true;
  return Router(std::move(routes));
}

TEST(Router, FindsExactPathsAndTails) {
  const Router router = sample();
  EXPECT_EQ(router.find("POST", "/chat").route->pattern, "/chat");
  const RouteMatch tail = router.find("DELETE", "/chat/conv_1");
  ASSERT_NE(tail.route, nullptr);
  EXPECT_EQ(tail.route->method, "DELETE");
  EXPECT_EQ(tail.id, "conv_1");
  EXPECT_EQ(router.find("GET", "/v1/models/org/name").id, "org/name");
  EXPECT_EQ(router.find("GET", "/v1/models").route->pattern, "/v1/models");
}

TEST(Router, AnExactPathWinsOverATail) {
  const Router router({route("GET", "/a/{id}"), route("POST", "/a/b"), route("GET", "/a/b/{id}")});
  EXPECT_EQ(router.find("POST", "/a/b").route->pattern, "/a/b");
  EXPECT_EQ(router.find("GET", "/a/b").route, nullptr);
  EXPECT_EQ(router.find("GET", "/a/b/c").route->pattern, "/a/b/{id}");
  EXPECT_EQ(router.find("GET", "/a/c").route->pattern, "/a/{id}");
}

TEST(Router, GetAnswersHead) {
  const Router router = sample();
  ASSERT_NE(router.find("HEAD", "/healthz").route, nullptr);
  EXPECT_EQ(router.find("HEAD", "/chat").route, nullptr);
}

TEST(Router, SaysWhichMethodsAPathHas) {
  const Router router = sample();
  EXPECT_EQ(router.find("BREW", "/healthz").allow, "GET, HEAD, OPTIONS");
  EXPECT_EQ(router.find("GET", "/chat").allow, "POST, OPTIONS");
  EXPECT_EQ(router.find("POST", "/chat/1").allow, "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(router.find("POST", "/chat/1").route, nullptr);
  EXPECT_TRUE(router.find("BREW", "/healthz").open);
  EXPECT_FALSE(router.find("POST", "/chat").open);
}

TEST(Router, UnknownPathsAllowNothing) {
  const Router router = sample();
  for (const char* path : {"/", "/healthz/", "/chat/", "/Chat", "/v1/nope", ""}) {
    const RouteMatch match = router.find("GET", path);
    EXPECT_EQ(match.route, nullptr) << path;
    EXPECT_EQ(match.allow, "") << path;
  }
  EXPECT_EQ(router.find("GET", "/v1/nope").dialect, Dialect::openai);
  EXPECT_EQ(router.find("GET", "/nope").dialect, Dialect::native);
  EXPECT_EQ(router.find("POST", "/v1/models").dialect, Dialect::openai);
}

TEST(Router, SaysWhatIsWrongWithARoute) {
  const Router router = sample();
  const auto code = [&](const char* method, const char* path) -> std::string_view {
    try {
      check_route(router.find(method, path), method, path);
      return "";
    } catch (const Error& error) {
      return name_of(error.code());
    }
  };
  EXPECT_EQ(code("GET", "/nope"), "not_found");
  EXPECT_EQ(code("OPTIONS", "/nope"), "not_found");
  EXPECT_EQ(code("DELETE", "/healthz"), "method_not_allowed");
  EXPECT_EQ(code("OPTIONS", "/healthz"), "");
  EXPECT_EQ(code("HEAD", "/healthz"), "");
}

TEST(Router, RefusesBadLists) {
  EXPECT_THROW(Router({route("GET", "/a"), route("GET", "/a")}), CheckFailure);
  EXPECT_THROW(Router({route("GET", "/a/{id}/b")}), CheckFailure);
  EXPECT_THROW(Router({route("GET", "/a/{name}")}), CheckFailure);
  EXPECT_THROW(Router({route("GET", "a")}), CheckFailure);
  EXPECT_THROW(Router({route("PUT", "/a")}), CheckFailure);
  EXPECT_THROW(Router({Route{"GET", "/a", nullptr}}), CheckFailure);
}

}  // namespace
}  // namespace cortex

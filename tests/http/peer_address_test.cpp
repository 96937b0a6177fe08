#include "http/peer_address.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

boost::asio::ip::address address(const char* text) { return boost::asio::ip::make_address(text); }

TEST(PeerAddress, KnowsThisMachineInAllForms) {
  for (const char* text : {"127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback(address(text))) << text;
  }
  for (const char* text : {"0.0.0.0", "10.0.0.1", "128.0.0.1", "::", "::2", "::ffff:10.0.0.1", "fe80::1"}) {
    EXPECT_FALSE(is_loopback(address(text))) << text;
  }
}

TEST(PeerAddress, OneHostHasOneNameWhateverItsAddress) {
  EXPECT_EQ(host_behind(address("192.0.2.7")), "192.0.2.7");
  EXPECT_EQ(host_behind(address("::ffff:192.0.2.7")), "192.0.2.7");
  EXPECT_NE(host_behind(address("192.0.2.7")), host_behind(address("192.0.2.8")));
  EXPECT_EQ(host_behind(address("2001:db8:1:2:3::4")), host_behind(address("2001:db8:1:2:ffff:1:2:3")));
  EXPECT_NE(host_behind(address("2001:db8:1:2::1")), host_behind(address("2001:db8:1:3::1")));
}

}  // namespace
}  // namespace cortex

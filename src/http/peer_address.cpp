#include "http/peer_address.h"

#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/address_v6.hpp>
#include <boost/asio/ip/network_v6.hpp>

namespace cortex {
namespace {

namespace ip = boost::asio::ip;

ip::address unmapped(const ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return ip::make_address_v4(ip::v4_mapped, address.to_v6());
}

}  // namespace

bool is_loopback(const ip::address& address) { return unmapped(address).is_loopback(); }

std::string host_behind(const ip::address& address) {
  constexpr unsigned short kNetworkBits = 64;
  const ip::address plain = unmapped(address);
  if (plain.is_v4()) return plain.to_string();
  return ip::make_network_v6(plain.to_v6(), kNetworkBits).canonical().to_string();
}

}  // namespace cortex

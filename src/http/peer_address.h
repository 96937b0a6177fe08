// What an address says of who is behind it. Pure functions; any thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string>

namespace cortex {

// Of this machine, an IPv4 address in IPv6's form included.
bool is_loopback(const boost::asio::ip::address& address);

// Who is limited together: an IPv4 address, or the /64 network of an IPv6 one, all of which one host may have.
std::string host_behind(const boost::asio::ip::address& address);

}  // namespace cortex

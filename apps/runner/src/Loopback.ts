/**
 * Whether a host is this machine and nothing else can reach it.
 */
import * as net from "node:net"

/** `host`: a name or an address; IPv6 ones with or without brackets. */
export const isLoopback = (host: string): boolean => {
  const name = host.replace(/^\[(.*)\]$/, "$1").toLowerCase()
  if (name === "localhost" || name.endsWith(".localhost")) return true
  return net.isIPv4(name) ? name.startsWith("127.") : name === "::1" || name === "0:0:0:0:0:0:0:1"
}

/**
 * Where a PostgreSQL server is, or the several that stand in for each other, and as whom to log in to which database.
 */
import { isIP } from "node:net"

/**
 * How the connection is protected. `disable`: plain text; `require`: encrypted, to whoever answers; `verify-ca`: the certificate is
 * from a trusted authority; `verify-full`: it also names the host.
 */
export type TlsMode = "disable" | "require" | "verify-ca" | "verify-full"

export interface Host {
  /** Name or address, or the absolute folder of a Unix socket. */
  readonly name: string
  /** The address to connect to when it shall not be looked up; the certificate still has to fit `name`. */
  readonly address: string | undefined
  readonly port: number
}

export interface Endpoint {
  /** In the order in which they are tried. */
  readonly hosts: readonly [Host, ...ReadonlyArray<Host>]
  readonly user: string
  readonly database: string
}

/** Whether traffic to `host` stays on this machine (loopback or a Unix socket). */
export const isLocal = ({ address, name }: Host): boolean => {
  const host = address ?? name
  return host.startsWith("/") || host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))
}

/** `host:port`, or a socket's path, for messages. */
export const describeHost = ({ name, port }: Host): string =>
  name.startsWith("/") ? `${name}/.s.PGSQL.${port}` : `${name.includes(":") ? `[${name}]` : name}:${port}`

/** `host:port, database "name"`, for messages. */
export const describe = ({ database, hosts }: Endpoint): string =>
  `${hosts.map(describeHost).join(",")}, database ${JSON.stringify(database)}`

/**
 * How a server is set up.
 */
import type { User } from "./Accounts.ts"
import type { Identity } from "./Listener.ts"
import type { Options as StreamingOptions } from "./streaming/StreamingOptions.ts"

export interface Options {
  /** Folder for everything the server keeps; created when missing. */
  readonly dataDir: string
  /** The account's identifier, e.g. `MYORG-LOCAL`. */
  readonly account: string
  readonly users: ReadonlyArray<User>
  /** Default 0: a free port. */
  readonly port?: number | undefined
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  /** HTTPS with this certificate, on a port of its own (default 0: a free one). Default: none. */
  readonly tls?: (Identity & { readonly port?: number | undefined }) | undefined
  /** False: no plain HTTP, only `tls`. Default true. */
  readonly http?: boolean | undefined
  /** Names of the warehouses that exist. Default: COMPUTE_WH. */
  readonly warehouses?: ReadonlyArray<string> | undefined
  /** Databases that are created when missing. Default: none. */
  readonly databases?: ReadonlyArray<string> | undefined
  /** How long a session token is good for before the driver has to renew it. Default 3600. */
  readonly tokenValiditySeconds?: number | undefined
  /** How long a session can be renewed. Default 14400. */
  readonly masterTokenValiditySeconds?: number | undefined
  /** A statement that takes longer is answered with "in progress" and a place to ask again. Default 45000. */
  readonly inProgressAfterMillis?: number | undefined
  /** A transaction of an idle session is rolled back when another waits this long for its lock. Default 10000; Snowflake waits five minutes. */
  readonly abandonedAfterMillis?: number | undefined
  /** Refuses what the session's role was not granted. Default false: every role may do everything. */
  readonly enforcePrivileges?: boolean | undefined
  /** Threads by which DuckDB works. With one, small statements take a third less processor time; more help with much data. Default: one per processor. */
  readonly threads?: number | undefined
  /** Tasks' intervals pass this much faster, for tests. Default 1. */
  readonly taskSpeedup?: number | undefined
  /** Serves `/_local/**`: the statement log and faults. Default false. */
  readonly admin?: boolean | undefined
  readonly streaming?: StreamingOptions | undefined
}

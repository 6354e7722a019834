/**
 * Turns what node-postgres, sockets and TLS throw into the error that people read: SQLSTATE classes and Node's codes decide the reason.
 *
 * The monitor reads catalogs only, whose error messages hold names and no rows; the original error is not kept as a cause all the same.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"

/** The plugin's name, also in its errors. */
export const pluginName = "@etl-stream/monitor-wal"

export const make = (reason: Reason, message: string, hint: string): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint })

const codeOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined

interface Meaning {
  readonly reason: Reason
  readonly hint: string
}

const passing: Meaning = {
  reason: "Unreachable",
  hint: "The monitor tries again by itself. If it goes on, look in the server's log and at the network in between."
}

const unreachable: Meaning = {
  reason: "Unreachable",
  hint:
    "Check the host and port in the monitor's options, that the server runs, and that a firewall lets the connection through."
}

const credentials: Meaning = {
  reason: "Unauthorized",
  hint: "Check user and password in the monitor's options, and the server's pg_hba.conf."
}

/** By SQLSTATE or its class; the longer one wins. */
const sqlStates: Readonly<Record<string, Meaning>> = {
  "28": credentials,
  "3D000": { reason: "Missing", hint: "Check the database's name in the monitor's options." },
  "42501": { reason: "Forbidden", hint: "Grant pg_monitor to the role, or use another role." },
  "53": { reason: "Throttled", hint: "The server lacks disk, memory or another resource: see its log." },
  "53300": { reason: "Throttled", hint: "All connections are taken: raise max_connections." },
  "55": { reason: "Throttled", hint: "The server was not ready for it; the monitor tries again by itself." },
  "57": passing,
  "57014": {
    reason: "Throttled",
    hint: "The server took too long: see what keeps it busy, or raise statementTimeout."
  },
  "08": passing
}

const nodeCodes: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: unreachable,
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ETIMEDOUT: unreachable,
  ENOENT: { reason: "Unreachable", hint: "There is no such Unix socket: check host (its folder) and port." },
  ENOTFOUND: { reason: "Unreachable", hint: "The host name has no address: check its spelling and the name service." },
  EAI_AGAIN: { reason: "Unreachable", hint: "The name service doesn't answer: check the network." },
  ECONNRESET: passing,
  EPIPE: passing
}

/** Messages that node-postgres makes itself, without a code. */
const clientMessages: ReadonlyArray<readonly [pattern: RegExp, meaning: Meaning]> = [
  [/timeout expired|connection timeout|Query read timeout/i, unreachable],
  [/Connection terminated|Connection ended/i, passing],
  [/does not support SSL/, {
    reason: "Misconfigured",
    hint: "Switch TLS on at the server, or, if the network may be trusted, set tls.mode to disable."
  }],
  [/SASL|SCRAM|password/i, credentials],
  [/There was an error establishing an SSL connection/, unreachable]
]

const isSqlState = (code: string): boolean => /^[0-9A-Z]{5}$/.test(code) && /[0-9]/.test(code)

const isTls = (code: string): boolean =>
  /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|UNABLE_TO_|DEPTH_ZERO|HOSTNAME_MISMATCH|INVALID_CA)|SELF_SIGNED/.test(code)

/** The error for `cause`, met while `doing`: the message reads "doing: what". */
export const fromCause = (cause: unknown, doing: string): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const code = codeOf(cause)
  const message = cause instanceof Error ? cause.message.split("\n")[0] ?? "" : ""
  if (code !== undefined && isSqlState(code)) {
    const { hint, reason } = sqlStates[code] ?? sqlStates[code.slice(0, 2)] ?? {
      reason: "Rejected",
      hint: `The server's log says more about SQLSTATE ${code}.`
    }
    if (message.includes("unsupported startup parameter")) {
      return make(
        "Misconfigured",
        `${doing}: ${message} (SQLSTATE ${code})`,
        "A connection pooler is in between: connect to the server itself."
      )
    }
    return make(reason, `${doing}: ${message} (SQLSTATE ${code})`, hint)
  }
  if (code !== undefined && isTls(code)) {
    return make(
      "Misconfigured",
      `${doing}: TLS: ${code}`,
      "Give the certificate of the server's authority in tls.ca, and connect by a host name that the server's certificate holds."
    )
  }
  const known = code === undefined ? undefined : nodeCodes[code]
  if (known !== undefined) return make(known.reason, `${doing}: ${code}`, known.hint)
  const own = clientMessages.find(([pattern]) => pattern.test(message))
  if (own !== undefined) return make(own[1].reason, `${doing}: ${message}`, own[1].hint)
  return make(
    "Unreachable",
    `${doing}: ${code ?? (cause instanceof Error ? cause.name : "unknown error")}`,
    passing.hint
  )
}

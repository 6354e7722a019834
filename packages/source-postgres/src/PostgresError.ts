/**
 * Turns what node-postgres, sockets and TLS throw into the error that people read.
 *
 * SQLSTATE classes and Node's codes decide the reason; the hint says what to do. A server's message is quoted only for
 * classes whose messages never carry a row's value, and the original error is not kept as a cause: its detail might.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import { tlsProblem } from "./internal/tlsProblem.ts"

/** The plugin's name in errors. */
export const pluginName = "@etl-stream/source-postgres"

/** An error of this source. */
export const make = (reason: Reason, message: string, hint: string, table?: string): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, ...(table === undefined ? {} : { table }) })

/** SQLSTATE or Node error code of `cause`, if it has one. */
export const codeOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : ""

interface Meaning {
  readonly reason: Reason
  readonly hint: string
}

const unreachable: Meaning = {
  reason: "Unreachable",
  hint:
    "Check the host and port in the source's options, that the server runs, and that a firewall lets the connection through."
}

const interrupted: Meaning = {
  reason: "Unreachable",
  hint: "The pipeline tries again by itself. If it goes on, look in the server's log and at the network in between."
}

const nodeCodes: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: unreachable,
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ETIMEDOUT: unreachable,
  ENOENT: { reason: "Unreachable", hint: "There is no such Unix socket: check host (its folder) and port." },
  EACCES: {
    reason: "Forbidden",
    hint: "The operating system forbids the connection: check the Unix socket's permissions."
  },
  ENOTFOUND: { reason: "Unreachable", hint: "The host name has no address: check its spelling and the name service." },
  EAI_AGAIN: { reason: "Unreachable", hint: "The name service doesn't answer: check the network." },
  ECONNRESET: interrupted,
  EPIPE: interrupted
}

const credentials: Meaning = {
  reason: "Unauthorized",
  hint: "Check user and password in the source's options, and the server's pg_hba.conf."
}

const lacking: Meaning = {
  reason: "Forbidden",
  hint: "Grant the missing privilege to the role, or use another role."
}

/** Longest prefix wins. */
const sqlStates: Readonly<Record<string, Meaning>> = {
  "08": interrupted,
  "25006": {
    reason: "Unreachable",
    hint:
      "The server is read-only, as after a failover: connect to the primary server. The pipeline tries again by itself."
  },
  "28": credentials,
  "3D000": { reason: "Missing", hint: "Check the database's name in the source's options." },
  "3F": { reason: "Missing", hint: "Check the schema's name in the source's options." },
  "40": {
    reason: "Throttled",
    hint: "The server gave up a conflicting transaction; the pipeline tries again by itself."
  },
  "42": { reason: "Rejected", hint: "Please report this with the message and the server's version." },
  "42501": lacking,
  "42704": { reason: "Missing", hint: "Create it, or correct its name in the source's options." },
  "42P01": {
    reason: "Missing",
    hint: "The table was dropped or renamed: correct tables in the source's options and start again."
  },
  "42703": {
    reason: "Missing",
    hint: "The table's columns changed while it was being read: start the pipeline again."
  },
  "53": { reason: "Throttled", hint: "The server lacks disk, memory or another resource: see its log." },
  "53300": {
    reason: "Throttled",
    hint: "All connections are taken: raise max_connections or max_wal_senders, or lower snapshot.parallel."
  },
  "53400": {
    reason: "Misconfigured",
    hint:
      "A limit of the server's configuration is reached: raise max_replication_slots, or drop slots that nobody reads."
  },
  "54": { reason: "Unsupported", hint: "The statement is beyond a limit of the server." },
  "55000": { reason: "Misconfigured", hint: "The server is not ready for logical replication: see the message." },
  "55006": {
    reason: "Fenced",
    hint: "Another process uses it. Stop that one, or give this pipeline a slot of its own."
  },
  "55P03": {
    reason: "Throttled",
    hint: "Another session holds a lock on a table for long; the pipeline tries again by itself."
  },
  "57": interrupted,
  "57014": {
    reason: "Throttled",
    hint: "The statement was cancelled or took too long; the pipeline tries again by itself."
  },
  "58": { reason: "Unreachable", hint: "The server has trouble with its files: see its log." },
  "XX": { reason: "Rejected", hint: "The server found an internal problem or damaged data: see its log." }
}

/** Messages that node-postgres makes itself, without a code. */
const clientMessages: ReadonlyArray<readonly [pattern: RegExp, meaning: Meaning]> = [
  [/timeout expired|connection timeout/i, unreachable],
  [/Connection terminated|Connection ended/i, interrupted],
  [/does not support SSL/, {
    reason: "Misconfigured",
    hint: "Switch TLS on at the server, or, if the network may be trusted, set tls.mode to disable."
  }],
  [/^SSL_CTX_/, {
    reason: "Misconfigured",
    hint: "Check that tls.ca, tls.cert and tls.key are PEM text, and that certificate and key belong together."
  }],
  [/^SASL channel binding/, {
    reason: "Misconfigured",
    hint: "The server's certificate can't be used for channel binding: set channelBinding to disable."
  }],
  [/SASL|SCRAM|password/i, credentials],
  [/There was an error establishing an SSL connection/, {
    reason: "Unreachable",
    hint: "Check that a PostgreSQL server listens at this host and port."
  }]
]

const isSqlState = (code: string): boolean => /^[0-9A-Z]{5}$/.test(code) && /[0-9]/.test(code)

/** Messages of the server whose SQLSTATE says too little. */
const serverMessages: ReadonlyArray<readonly [pattern: RegExp, meaning: Meaning]> = [
  [
    /has been invalidated|can no longer (access|get changes from) replication slot|cannot read from logical replication slot/,
    {
      reason: "Lost",
      hint: "The server has removed log that this slot still needed. Drop the slot and copy the tables again."
    }
  ],
  [/recovery is in progress|while in recovery/, {
    reason: "Unreachable",
    hint: "The server is a standby: connect to the primary server. The pipeline tries again by itself."
  }],
  [/unsupported startup parameter/, {
    reason: "Misconfigured",
    hint: "Connect to the server itself: connection poolers don't pass replication on."
  }],
  [/unrecognized configuration parameter/, { reason: "Unsupported", hint: "PostgreSQL 14 or later is needed." }]
]

/** Class 22 and 23 messages quote values ("invalid input syntax for type integer: …"), others name objects only. */
const quotable = (code: string): boolean => !code.startsWith("22") && !code.startsWith("23") && !code.startsWith("P0")

const sqlStateMeaning = (code: string): Meaning =>
  sqlStates[code] ?? sqlStates[code.slice(0, 2)] ?? {
    reason: "Rejected",
    hint: `The server's log says more about SQLSTATE ${code}.`
  }

/** Text of an error message of the server: first line, and not from classes whose messages hold values. */
const serverText = (code: string, message: string): string =>
  quotable(code) ? `${message.split("\n")[0]} (SQLSTATE ${code})` : `SQLSTATE ${code}`

/** The SQLSTATE that `serverText` wrote into an error's message, if there is one. */
export const sqlStateOf = (error: ConnectorError): string | undefined =>
  /SQLSTATE ([0-9A-Z]{5})\)?$/.exec(error.message)?.[1]

/** Errors of the language and its library: a defect of a program, which no new attempt mends. Their messages may quote values. */
const isDefect = (cause: unknown): cause is Error =>
  cause instanceof TypeError || cause instanceof ReferenceError || cause instanceof RangeError ||
  cause instanceof SyntaxError

/** File and line where a defect showed, for a report. */
const placeOf = (cause: Error): string => {
  const place = /[\w.-]+\.[cm]?[jt]s:\d+:\d+(?=\)?$)/m.exec((cause.stack ?? "").replace(cause.message, ""))
  return place === null ? "" : ` at ${place[0]}`
}

/**
 * The error for `cause`, met while `doing` (`connecting to db:5432`): the message reads "doing: what".
 */
export const fromCause = (cause: unknown, doing: string, table?: string): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const code = codeOf(cause)
  const message = messageOf(cause)
  if (code !== undefined && isSqlState(code)) {
    const special = serverMessages.find(([pattern]) => pattern.test(message))
    const { hint, reason } = special?.[1] ?? sqlStateMeaning(code)
    return make(reason, `${doing}: ${serverText(code, message)}`, hint, table)
  }
  const tls = code === undefined ? undefined : tlsProblem(code)
  if (tls !== undefined) return make("Misconfigured", `${doing}: TLS: ${tls.what} (${code})`, tls.hint, table)
  const known = code === undefined ? undefined : nodeCodes[code]
  if (code !== undefined && known !== undefined) return make(known.reason, `${doing}: ${code}`, known.hint, table)
  if (isDefect(cause)) {
    return make(
      "Protocol",
      `${doing}: internal error, ${cause.name}${code === undefined ? "" : ` ${code}`}${placeOf(cause)}`,
      "This is a defect of the program: please report it with this message and the server's version.",
      table
    )
  }
  for (const [pattern, meaning] of clientMessages) {
    if (pattern.test(message)) {
      return make(meaning.reason, `${doing}: ${message.replace(/\n[^]*| when parsing [^]*/, "")}`, meaning.hint, table)
    }
  }
  return make(
    "Unreachable",
    `${doing}: ${code ?? (cause instanceof Error ? cause.name : "unknown error")}`,
    interrupted.hint,
    table
  )
}

/**
 * What went wrong with a command: what it means to people, and whether the command may have been executed.
 *
 * Errors of the client carry the command's arguments, the password of AUTH among them, and replies may quote arguments: nothing of them is passed on but codes that are
 * known to be harmless.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import * as Data from "effect/Data"
import type { Endpoint } from "./Endpoint.ts"

/** The plugin's name, also in its errors. */
export const pluginName = "@etl-stream/state-redis"

export class RedisFailure extends Data.TaggedError("RedisFailure")<{
  /** `no`: the command was not sent, or refused; `unknown`: it was sent, and no answer came. */
  readonly executed: "no" | "unknown"
  /** Whether a moment later it may be otherwise. */
  readonly passing: boolean
  readonly error: ConnectorError
}> {}

interface Meaning {
  readonly reason: Reason
  readonly message: string
  readonly hint: string
  readonly passing: boolean
}

const commands = "+eval +evalsha +hget +hset +hdel +hkeys +time +select +info +ping"

/** What the rights of an ACL user have to be, for hints. */
export const rights = (key: string): string => `ACL SETUSER <user> ~${key} ${commands}`

const unreachableHint =
  "Check that Redis runs, and the host and port of the state's options. Pipelines go on meanwhile; what they would keep is written when it is back."

const refused = (endpoint: Endpoint, key: string, code: string, text: string): Meaning => {
  const at = endpoint.label
  const meaning = (reason: Reason, message: string, hint: string, passing = false): Meaning => ({
    reason,
    message,
    hint,
    passing
  })
  const forbidden = meaning("Forbidden", `${at} doesn't let the user do what the state store needs`, rights(key))
  switch (code) {
    case "WRONGPASS":
    case "NOAUTH":
      return meaning(
        "Unauthorized",
        code === "NOAUTH" ? `${at} asks for a password` : `${at} refuses the user or password`,
        "Check `username` and `password` of the state's options, or those in its URL."
      )
    case "NOPERM":
      return forbidden
    case "DENIED":
      return meaning(
        "Forbidden",
        `${at} is in protected mode and takes no connections from other machines`,
        "Give it a password or ACL users, and then `protected-mode no`."
      )
    case "OOM":
      return meaning(
        "Throttled",
        `${at} has reached its memory limit`,
        "Raise its maxmemory, or remove what isn't needed. The state of etl-stream takes kilobytes."
      )
    case "BUSY":
      return meaning("Throttled", `${at} is busy with somebody's script`, "Wait, or end it with SCRIPT KILL.", true)
    case "LOADING":
      return meaning("Throttled", `${at} is loading its data`, "Wait until it has.", true)
    case "READONLY":
      return meaning(
        "Unreachable",
        `${at} is a replica, which can't be written to`,
        "If this isn't a failover that is under way, name the primary in the state's options, or use `sentinel` or `cluster`.",
        true
      )
    case "MASTERDOWN":
    case "NOREPLICAS":
    case "CLUSTERDOWN":
    case "TRYAGAIN":
    case "UNKILLABLE":
      return meaning(
        "Unreachable",
        `${at} can't work at the moment (${code})`,
        "Check its nodes: a failover may be under way, or a part of it is down.",
        true
      )
    case "MOVED":
    case "ASK":
    case "CROSSSLOT":
      return meaning(
        "Misconfigured",
        `${at} is a node of a cluster`,
        "Name its nodes in `cluster.nodes` of the state's options."
      )
    case "MISCONF":
      return meaning(
        "Misconfigured",
        `${at} refuses writes because it can't save its data to disk`,
        "Look at its log, and give its disk room; or switch saving off (save \"\"): the state needs none."
      )
    case "WRONGTYPE":
      return meaning(
        "Misconfigured",
        `The key ${key} of ${at} is something else's`,
        "Choose another `namespace` in the state's options, or delete the key."
      )
  }
  if (/user executing the script can't/i.test(text)) return forbidden
  if (/max number of clients/i.test(text)) {
    return meaning(
      "Throttled",
      `${at} has as many clients as it takes`,
      "Raise its maxclients, or end some clients.",
      true
    )
  }
  if (/DB index is out of range/i.test(text)) {
    return meaning(
      "Misconfigured",
      `${at} has no database ${endpoint.database}`,
      "Choose another `database` in the state's options, or raise `databases` in redis.conf."
    )
  }
  if (/SELECT is not allowed in cluster mode/i.test(text)) {
    return meaning(
      "Misconfigured",
      `${at} is a node of a cluster, which has only database 0`,
      "Use `cluster` in the state's options, without `database`."
    )
  }
  if (/cluster support disabled/i.test(text)) {
    return meaning("Misconfigured", `${at} is no cluster`, "Use `url` or `host` in the state's options.")
  }
  if (
    /without any password configured|no password is set|invalid password|wrong number of arguments for 'auth'/i.test(
      text
    )
  ) {
    return meaning(
      "Unauthorized",
      `${at} refuses the user or password`,
      "Check `username` and `password` of the state's options; Redis before version 6 has no users."
    )
  }
  if (/unknown command/i.test(text)) {
    return meaning(
      "Unsupported",
      `${at} lacks a command that the state store needs`,
      "Use Redis 6 or later, or Valkey, with EVAL allowed."
    )
  }
  return meaning(
    "Rejected",
    `${at} refused a command of the state store${/^[A-Z]{3,20}$/.test(code) ? ` (${code})` : ""}`,
    "Look at the server's log, and report this if nothing there explains it."
  )
}

const network = (endpoint: Endpoint, code: string): Meaning => {
  const at = endpoint.label
  const of = (reason: Reason, message: string, hint: string, passing: boolean): Meaning => ({
    reason,
    message,
    hint,
    passing
  })
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return of(
      "Misconfigured",
      `The certificate of ${at} is for another name`,
      "Use the name that it is for, or say it in `tls.serverName`.",
      false
    )
  }
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") {
    return of(
      "Misconfigured",
      `The certificate of ${at} is not valid now`,
      "Renew it, and check the machine's clock.",
      false
    )
  }
  if (/CERT|SIGNATURE|ISSUER/.test(code)) {
    return of(
      "Misconfigured",
      `The certificate of ${at} is from an authority that isn't trusted (${code})`,
      "Give the authority's certificate in `tls.ca` of the state's options.",
      false
    )
  }
  if (/^ERR_(SSL|TLS|OSSL)|^EPROTO$/.test(code)) {
    return of(
      "Misconfigured",
      `No encrypted connection to ${at} can be made (${code})`,
      "Check that the server speaks TLS at this port (tls-port), whether it wants a client certificate, and `tls` of the state's options.",
      false
    )
  }
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return of("Unreachable", `The host of ${at} is not known`, "Check its name in the state's options.", true)
    case "ECONNREFUSED":
      return of("Unreachable", `${at} takes no connections`, unreachableHint, true)
    case "ETIMEDOUT":
      return of("Unreachable", `No connection to ${at} was made in time`, unreachableHint, true)
    default:
      return of(
        "Unreachable",
        `The connection to ${at} was lost or can't be made${/^E[A-Z]{3,20}$/.test(code) ? ` (${code})` : ""}`,
        unreachableHint,
        true
      )
  }
}

/** What a sentinel's refusal means: the client has it in words only. */
const sentinel = ({ label, place }: Endpoint, message: string): Meaning | undefined => {
  if (!/^(failed to connect|connected) to sentinel /.test(message) || place._tag !== "Sentinel") return undefined
  if (/invalid reply: null|No such master/.test(message)) {
    return {
      reason: "Missing",
      message: `The sentinels don't know a primary ${place.name}`,
      hint: "Check `sentinel.name` of the state's options: `sentinel monitor` in their configuration says it.",
      passing: false
    }
  }
  return /because (WRONGPASS|NOAUTH|NOPERM)/.test(message)
    ? {
      reason: "Unauthorized",
      message: `The sentinels of ${label} refuse the user or password, or ask for one`,
      hint: "Check `sentinel.username` and `sentinel.password` of the state's options.",
      passing: false
    }
    : undefined
}

const textOf = (cause: unknown, name: string): string => {
  const value: unknown = typeof cause === "object" && cause !== null ? Reflect.get(cause, name) : undefined
  return typeof value === "string" ? value : ""
}

/** Sentinel and cluster clients put the reason of a failure into another error. */
const innermost = (cause: unknown): unknown => {
  if (typeof cause !== "object" || cause === null) return cause
  const inner: unknown = Reflect.get(cause, "lastNodeError") ??
    (cause instanceof AggregateError ? cause.errors[0] : undefined)
  return inner === undefined || inner === null ? cause : innermost(inner)
}

/** Whether an error is the server's answer. */
const isReply = (cause: unknown): boolean => textOf(cause, "name") === "ReplyError"

/** Whether the client says that it didn't send the command, as it has no connection. */
const isUnsent = (cause: unknown): boolean => /enableOfflineQueue options is false/.test(textOf(cause, "message"))

export interface Context {
  readonly endpoint: Endpoint
  /** The key that everything is in. */
  readonly key: string
  /** What the client said last of a connection that it couldn't make. */
  readonly trouble: unknown
}

const meaningOf = ({ endpoint, key }: Context, cause: unknown): Meaning => {
  const found = innermost(cause)
  const message = textOf(found, "message")
  const atSentinel = endpoint.place._tag === "Sentinel" ? sentinel(endpoint, message) : undefined
  if (atSentinel !== undefined) return atSentinel
  return isReply(found)
    ? refused(endpoint, key, /^\S*/.exec(message)?.[0] ?? "", message)
    : network(endpoint, textOf(found, "code"))
}

const failure = (
  { message, hint, passing, reason }: Meaning,
  executed: RedisFailure["executed"],
  code: string
): RedisFailure =>
  new RedisFailure({
    executed,
    passing,
    error: new ConnectorError({
      reason,
      plugin: pluginName,
      message,
      hint,
      ...(code === "" ? {} : { cause: new Error(code) })
    })
  })

/** What a rejected promise of the client means. */
export const fromCause = (context: Context, cause: unknown): RedisFailure => {
  const unsent = isUnsent(cause)
  const origin = unsent ? context.trouble ?? cause : cause
  return failure(meaningOf(context, origin), unsent || isReply(cause) ? "no" : "unknown", codeOf(origin))
}

const codeOf = (cause: unknown): string => {
  const found = innermost(cause)
  return isReply(found)
    ? /^[A-Z]{3,20}(?= )/.exec(textOf(found, "message"))?.[0] ?? "ERR"
    : /^[A-Z_0-9]+$/.exec(textOf(found, "code"))?.[0] ?? ""
}

/** No answer came in time. */
export const late = ({ endpoint }: Context): RedisFailure =>
  failure(
    {
      reason: "Unreachable",
      message: `${endpoint.label} didn't answer within ${endpoint.timeout} ms`,
      hint: unreachableHint,
      passing: true
    },
    "unknown",
    ""
  )

/** The same failure of a command that may have been executed by an earlier attempt. */
export const doubtful = ({ error, passing }: RedisFailure): RedisFailure =>
  new RedisFailure({ executed: "unknown", passing, error })

/** A write whose answer was lost, and of which can't be said whether it was made. */
export const uncertain = ({ endpoint }: Context): RedisFailure =>
  failure(
    {
      reason: "Unreachable",
      message:
        `The connection to ${endpoint.label} was lost before it answered to a write, so it isn't known whether it was made`,
      hint: unreachableHint,
      passing: true
    },
    "unknown",
    ""
  )

/** An answer that isn't what the command answers. */
export const unreadable = ({ endpoint }: Context): RedisFailure =>
  failure(
    {
      reason: "Protocol",
      message: `${endpoint.label} gave an answer that can't be understood`,
      hint: "Check that it is Redis 6 or later, or Valkey, and that nothing in between changes answers.",
      passing: false
    },
    "unknown",
    ""
  )

/**
 * A logical replication session: node-postgres connects it (TLS, SCRAM), then its socket is ours.
 *
 * Before `start`, `client` takes commands as usual (IDENTIFY_SYSTEM, CREATE_REPLICATION_SLOT …). `start` begins the stream:
 * `WalStream.pull` gives whole messages in large views and is the only thing that reads the socket, while a fiber of its
 * own tells the server how far we are, on time whether or not anything is pulled. Only what `acknowledged` returns is ever
 * confirmed. After a refused `start` the session takes commands again, so it may be tried once more.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as net from "node:net"
import { Client, type ClientConfig } from "pg"
import * as DirectSocket from "./internal/directSocket.ts"
import type { Frames } from "./internal/frameBuffer.ts"
import { refusedError, shuttingDown, streamError } from "./internal/streamError.ts"
import { type StreamEnd, WireReader } from "./internal/wireReader.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"

export type { Frames } from "./internal/frameBuffer.ts"

export interface StartOptions {
  readonly slot: string
  readonly publications: ReadonlyArray<string>
  /**
   * Where to begin; anything below the slot's confirmed position, and the default 0, means from there. Never confirmed by
   * itself, and neither is a position below it: servers before 17 would move the slot back.
   */
  readonly from?: bigint
  /** Values in binary format where the server has one. Default false: text is as fast and has a decoder for every type. */
  readonly binary?: boolean
  /** Also messages of `pg_logical_emit_message`. */
  readonly messages?: boolean
  /**
   * Large transactions while they are in progress, for `StreamedTransactions`: with it a view may hold their blocks, which the
   * decoder doesn't take. Default false: the server keeps a transaction until it commits.
   */
  readonly streaming?: boolean
  /** PostgreSQL 16 and later: `none` leaves out changes that were themselves replicated. Default: the server's (`any`). */
  readonly origin?: "any" | "none"
  /** The position up to which everything is durable; read on the feedback's timer. 0 = nothing yet. */
  readonly acknowledged: () => bigint
  /** Longest time between two status messages; a third of `wal_sender_timeout` when that is less. Default 10,000. */
  readonly statusMillis?: number
  /** While being pulled, a server that says nothing for so long, though asked, counts as gone. Default 300,000. */
  readonly silenceMillis?: number
}

export interface WalStream {
  /**
   * The next whole messages, waiting until there are some. The view is valid until the next pull. Fails with the reason
   * for which the stream ended.
   */
  readonly pull: Effect.Effect<Frames, ConnectorError>
  /** Highest WAL position that came from the server. */
  readonly received: () => bigint
  /** Highest position that was confirmed to the server. */
  readonly confirmed: () => bigint
  /** Tells the server now how far we are, for example before a stop. */
  readonly sendStatus: Effect.Effect<void>
  /** Asks the server for a sign of life, so that a `pull` that waits gets something soon. */
  readonly ping: Effect.Effect<void>
  /**
   * Hangs up because the server shuts down, which it can't do before everything was read and confirmed: a stalled reader would keep it
   * from that. The next pull fails as for a lost connection.
   */
  readonly hangUp: Effect.Effect<void>
}

export interface ReplicationConnection {
  /** For commands before `start`; its `query` must be used without parameters (simple protocol). */
  readonly client: Client
  /** Begins to stream from a slot; ended with the scope: last status, CopyDone, Terminate. */
  readonly start: (options: StartOptions) => Effect.Effect<WalStream, ConnectorError, Scope.Scope>
}

/** How the socket's bytes reach node-postgres or us. */
interface Intake {
  readonly socket: net.Socket
  /** Gives the bytes to `reader`, or, when undefined, to node-postgres. */
  readonly direct: (reader: WireReader | undefined) => void
}

/** Reads straight into the reader's buffer. */
const directIntake = ({ direct, socket }: DirectSocket.DirectSocket): Intake => ({
  socket,
  direct: (reader) =>
    direct(
      reader && {
        target: () => reader.buffer.target(),
        received: (from, count) => reader.received(from, count)
      }
    )
})

/** TLS decrypts into chunks of its own, which are copied. */
const tlsIntake = (socket: net.Socket): Intake => {
  // node-postgres' parser; the types of Node's `listeners` say no more than "function".
  const relayed = socket.listeners("data").map((listener) => listener as (chunk: Buffer) => void)
  let current: ((chunk: Buffer) => void) | undefined
  return {
    socket,
    direct: (reader) => {
      if (current !== undefined) socket.off("data", current)
      current = undefined
      for (const listener of relayed) socket.off("data", listener)
      if (reader === undefined) { for (const listener of relayed) socket.on("data", listener) }
      else {
        current = (chunk) => reader.receivedChunk(chunk)
        socket.on("data", current)
      }
    }
  }
}

const connecting = (config: ClientConfig): string =>
  `connecting to ${config.host ?? "localhost"}${config.port === undefined ? "" : `:${config.port}`}`

const unwatched = (): void => {}

const isUnixSocket = (client: Client): boolean => client.host.startsWith("/")

const closeMillis = 1000

/** Closes the socket, at the latest after a second; what still comes is thrown away so that the server can end in order. */
const close = (client: Client, socket: net.Socket): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    socket.resume()
    // Ends with Terminate, which a walsender takes at the end of a stream.
    client.end().catch(() => undefined)
  }).pipe(
    Effect.timeoutOption(closeMillis),
    Effect.andThen(Effect.sync(() => socket.destroy()))
  )

/**
 * Connects a session for logical replication; `config` is node-postgres's own, with the session's settings in `options`. `watch`
 * sees the client before it connects.
 */
export const connect = Effect.fn("ReplicationConnection.connect")(function*(
  config: ClientConfig,
  watch: (client: Client) => void = unwatched
): Effect.fn.Return<ReplicationConnection, ConnectorError, Scope.Scope> {
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const options = {
        keepAlive: true,
        ...config,
        stream: DirectSocket.stream,
        replication: "database"
      }
      const made = new Client(options)
      // Losses reach the query or the pull that waits; nobody else has to hear of them.
      made.on("error", () => {})
      watch(made)
      return made
    }),
    (made) => close(made, made.connection.stream as net.Socket) // ours, or TLS over one
  )
  yield* Effect.tryPromise({
    try: () => client.connect(),
    catch: (cause) => PostgresError.fromCause(cause, connecting(config))
  })
  const socket = client.connection.stream as net.Socket // as above
  const direct = DirectSocket.of(socket)
  const intake = direct === undefined ? tlsIntake(socket) : directIntake(direct)
  return { client, start: (options) => start(client, intake, options) }
})

/** The version of pgoutput's protocol that the decoder understands. */
const protocolVersion = "1"

/** The newest version that a server has; from 2 on it streams transactions in progress, and says the rest as version 1 does. */
const streamingVersion = (serverVersion: number): string =>
  serverVersion >= 160_000 ? "4" : serverVersion >= 150_000 ? "3" : "2"

const startCommand = (options: StartOptions, serverVersion: number): string => {
  const plugin: Array<readonly [string, string]> = [
    ["proto_version", options.streaming === true ? streamingVersion(serverVersion) : protocolVersion],
    ["publication_names", options.publications.map(Sql.identifier).join(",")]
  ]
  if (options.streaming === true) plugin.push(["streaming", "on"])
  if (options.binary === true) plugin.push(["binary", "true"])
  if (options.messages === true) plugin.push(["messages", "true"])
  if (options.origin !== undefined) plugin.push(["origin", options.origin])
  const list = plugin.map(([name, value]) => `${name} ${Sql.replicationLiteral(value)}`).join(", ")
  return `START_REPLICATION SLOT ${Sql.identifier(options.slot)} LOGICAL ${Lsn.format(options.from ?? 0n)} (${list})`
}

const queryMessage = (sql: string): Uint8Array => {
  const text = Buffer.from(`${sql}\0`, "utf8")
  const message = Buffer.alloc(5 + text.length)
  message.write("Q")
  message.writeInt32BE(4 + text.length, 1)
  text.copy(message, 5)
  return message
}

const copyDone = Uint8Array.of(0x63, 0, 0, 0, 4)

/** 2000-01-01, the epoch of times in the replication protocol, in milliseconds since 1970. */
const postgresEpoch = 946_684_800_000

/** StandbyStatusUpdate in CopyData: written, flushed and applied positions, our clock, whether an answer is wanted. */
const statusMessage = (written: bigint, flushed: bigint, millis: number, reply: boolean): Uint8Array => {
  const message = Buffer.alloc(39)
  message.write("d")
  message.writeInt32BE(38, 1)
  message.write("r", 5)
  message.writeBigUInt64BE(written, 6)
  message.writeBigUInt64BE(flushed, 14)
  message.writeBigUInt64BE(flushed, 22)
  message.writeBigInt64BE(BigInt(Math.round((millis - postgresEpoch) * 1000)), 30)
  message[38] = reply ? 1 : 0
  return message
}

/** Status messages that the server doesn't read are not piled up. */
const unsentLimit = 64 * 1024

const defaultStatusMillis = 10_000
const defaultSilenceMillis = 300_000
/** A position newly acknowledged is passed on so often, so the server can free WAL early. */
const freshMillis = 1000

const numericSetting = (client: Client, name: string): Effect.Effect<number, ConnectorError> =>
  Effect.tryPromise({
    try: async () => {
      const { rows } = await client.query<{ setting: string }>(
        `SELECT setting FROM pg_catalog.pg_settings WHERE name = ${Sql.literal(name)}`
      )
      return Number(rows[0]?.setting ?? 0)
    },
    catch: (cause) => PostgresError.fromCause(cause, `reading ${name}`)
  })

/** Who holds a slot, for the hint; best effort. */
const slotHolder = (client: Client, slot: string): Effect.Effect<string | undefined> =>
  Effect.tryPromise(async () => {
    const { rows } = await client.query<{ pid: number; name: string | null; address: string | null }>(
      "SELECT s.active_pid AS pid, a.application_name AS name, host(a.client_addr) AS address " +
        "FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid " +
        `WHERE s.slot_name = ${Sql.literal(slot)} AND s.active_pid IS NOT NULL`
    )
    const row = rows[0]
    if (row === undefined) return undefined
    return `process ${row.pid}${row.name ? ` ("${row.name}")` : ""}${
      row.address === null ? "" : ` from ${row.address}`
    }`
  }).pipe(
    Effect.timeoutOption(2000),
    Effect.map((found) => found._tag === "Some" ? found.value : undefined),
    Effect.orElseSucceed(() => undefined)
  )

/** Waits for the server's answer to START_REPLICATION. */
const begin = (reader: WireReader, socket: net.Socket, command: string): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    reader.start(() => resume(Effect.void))
    socket.write(queryMessage(command))
    return Effect.sync(() => reader.cancel())
  })

const start = Effect.fn("ReplicationConnection.start")(function*(
  client: Client,
  intake: Intake,
  options: StartOptions
): Effect.fn.Return<WalStream, ConnectorError, Scope.Scope> {
  const { socket } = intake
  const clock = yield* Clock.Clock
  const timeout = yield* numericSetting(client, "wal_sender_timeout")
  const serverVersion = options.streaming === true ? yield* numericSetting(client, "server_version_num") : 0
  const wanted = options.statusMillis ?? defaultStatusMillis
  const statusMillis = timeout > 0 ? Math.min(wanted, timeout / 3) : wanted
  const silenceMillis = options.silenceMillis ?? defaultSilenceMillis

  const floor = options.from ?? 0n
  let confirmed = 0n
  let sentAt = 0
  const received = () => BigInt(reader.buffer.receivedHigh) << 32n | BigInt(reader.buffer.receivedLow)
  const sendStatus = (reply: boolean): void => {
    if (!socket.writable || socket.writableLength > unsentLimit) return
    const acknowledged = options.acknowledged()
    if (acknowledged > confirmed && acknowledged > floor) confirmed = acknowledged
    const written = received()
    const now = clock.currentTimeMillisUnsafe()
    sentAt = now
    socket.write(statusMessage(written > confirmed ? written : confirmed, confirmed, now, reply))
  }
  const reader = new WireReader(socket, !isUnixSocket(client), () => sendStatus(false))

  const onError = (error: NodeJS.ErrnoException): void => reader.lost(error.code)
  const onClose = (): void => reader.lost(undefined)
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      socket.pause()
      socket.on("error", onError)
      socket.on("close", onClose)
      intake.direct(reader)
    }),
    () =>
      Effect.sync(() => {
        reader.finish({ _tag: "Lost", code: undefined })
        reader.discard()
        if (reader.buffer.streaming && socket.writable) {
          sendStatus(false)
          socket.write(copyDone)
        }
      })
  )
  yield* begin(reader, socket, startCommand(options, serverVersion))
  if (!reader.buffer.streaming) {
    socket.off("error", onError)
    socket.off("close", onClose)
    const { refusal } = reader.buffer
    if (refusal === undefined) {
      return yield* streamError(reader.ended ?? { _tag: "Lost", code: undefined }, options.slot)
    }
    intake.direct(undefined)
    socket.resume()
    const holder = refusal.get("C") === "55006" ? yield* slotHolder(client, options.slot) : undefined
    return yield* refusedError(refusal, options.slot, holder)
  }

  const tickMillis = Math.min(freshMillis, statusMillis)
  let lookedAt = performance.now()
  /** When the server was asked for an answer that hasn't come. */
  let askedAt: number | undefined
  // A server that is silent though asked is gone, even if the network never says so.
  const tick = Effect.sync(() => {
    const now = clock.currentTimeMillisUnsafe()
    const looked = performance.now()
    const quiet = reader.quietSince === undefined ? 0 : looked - reader.quietSince
    const asks = quiet > silenceMillis / 4
    // What came while this process stood still isn't read yet: the server is asked anew.
    if (!asks || looked - lookedAt > tickMillis + silenceMillis / 4) askedAt = undefined
    lookedAt = looked
    if (quiet > silenceMillis && askedAt !== undefined && looked - askedAt > silenceMillis / 2) {
      reader.lost("ETIMEDOUT")
      return
    }
    const due = now - sentAt >= statusMillis - 1 || now < sentAt || (asks && askedAt === undefined)
    if (!due && options.acknowledged() <= confirmed) return
    if (asks) askedAt ??= looked
    sendStatus(asks)
  })
  yield* Effect.forkScoped(
    Effect.repeat(tick, Schedule.spaced(tickMillis)),
    { startImmediately: true }
  )

  const failed = (end: StreamEnd) => streamError(end, options.slot)
  const pull = Effect.callback<Frames, ConnectorError>((resume) => {
    reader.pull((exit) => resume(Exit.mapError(exit, failed)))
    return Effect.sync(() => reader.cancel())
  })
  return {
    pull,
    received,
    confirmed: () => confirmed,
    sendStatus: Effect.sync(() => sendStatus(false)),
    ping: Effect.sync(() => sendStatus(true)),
    hangUp: Effect.sync(() => {
      sendStatus(false)
      reader.lost(shuttingDown)
      socket.destroy()
    })
  }
})

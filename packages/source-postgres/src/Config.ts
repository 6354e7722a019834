/**
 * The options of the PostgreSQL source.
 *
 * `Config` is decoded from the pipeline's configuration alone; `resolve` adds what derives from the pipeline's name (slot and
 * publication) and reads the files that the options about the connection name.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as TablePattern from "@etl-stream/core/TablePattern"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as path from "node:path"
import * as ConnectionOptions from "./ConnectionOptions.ts"

/** Replication slots allow these characters only. */
const SlotName = Schema.String.check(
  Schema.isPattern(/^[a-z0-9_]{1,63}$/u, { expected: "1 to 63 characters of a-z, 0-9 and _" })
)

/** The server cuts longer names off without a word. */
const maxNameBytes = 63

const PublicationName = Schema.String.check(
  Schema.makeFilter((name: string) =>
    name !== "" && Buffer.byteLength(name) <= maxNameBytes && !name.includes("\0")
      ? undefined
      : `expected 1 to ${maxNameBytes} bytes`
  )
)

const Publication = Schema.Struct({
  name: Schema.optionalKey(PublicationName).annotateKey({
    description: "Name of the publication, exactly as it is stored. Default: the pipeline's name."
  }),
  manage: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotateKey({
    description:
      "Whether the publication is created, and missing tables are added to it, which needs ownership of the tables. From a " +
      "publication that this pipeline created, tables that left the pipeline are removed; from any other nothing ever is."
  }),
  check: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("1 minute")
  ).annotateKey({
    description:
      "How often, while changes are read, the catalog is asked whether the publication still publishes the same rows of the same tables, " +
      "partitions included: the log doesn't tell. At most every 50 milliseconds."
  })
})

const Slot = Schema.Struct({
  name: Schema.optionalKey(SlotName).annotateKey({
    description: "Name of the replication slot, created when missing. Default: the pipeline's name."
  }),
  wait: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("15 seconds")
  ).annotateKey({
    description:
      "How long to wait for a slot that is in use: after a crash the server notices the old connection's end late."
  }),
  onLost: Schema.Literals(["halt", "resnapshot"]).pipe(
    ConfigOption.withDefault("halt")
  ).annotateKey({
    description:
      "What happens when changes are missing: the slot was dropped, invalidated, or moved by somebody else. halt: the pipeline ends " +
      "and says what to do; resnapshot: it drops a slot that is of no use any more, makes a new one, and copies the tables again."
  }),
  failover: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description:
      "Creates the slot as one that standbys keep a copy of (PostgreSQL 17), so that the pipeline goes on after a failover."
  })
})

const Heartbeat = Schema.Struct({
  enabled: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotateKey({
    description:
      "Whether the pipeline writes small messages into the server's log (pg_logical_emit_message, a few hundred bytes each) and " +
      "reads them back. Without them, a slot that somebody else moved can't be told from one's own."
  }),
  every: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("10 seconds")
  ).annotateKey({
    description:
      "How often a message is written while tables are idle, which is also how often the slot advances then. While tables " +
      "change it is once a second."
  })
})

const Snapshot = Schema.Struct({
  parallel: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 })).pipe(
    ConfigOption.withDefault(2)
  ).annotateKey({ description: "Connections that copy tables, or chunks of large ones, at the same time." }),
  chunkBytes: Schema.Int.check(Schema.isBetween({ minimum: 8192, maximum: 2 ** 40 })).pipe(
    ConfigOption.withDefault(64 << 20)
  ).annotateKey({
    description:
      "Size, in bytes of the table, of the chunks that a copy is cut into: what is copied again at most, per connection, after an interruption."
  }),
  fetchRows: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 })).pipe(
    ConfigOption.withDefault(16_384)
  ).annotateKey({ description: "Rows per batch of the copy; a batch ends at 4 MiB too." })
})

const StreamingMode = Schema.Literals(["off", "on"])

const Streaming = Schema.Struct({
  mode: StreamingMode.pipe(ConfigOption.withDefault("on")).annotateKey({
    description:
      "off: the server keeps a transaction, on its own disk when it is large, and sends it when it has committed; on: it sends " +
      "large ones (logical_decoding_work_mem) while they are in progress, and they are kept here until they commit. A " +
      "long load then arrives sooner, and its sequence is the same. Logical messages in savepoints that are rolled back come all the same."
  }),
  directory: Schema.optionalKey(ConfigOption.Path).annotateKey({
    description: "Folder for transactions in progress; each pipeline has a private one in it. Default: ./spool."
  }),
  diskLimit: ByteSize.pipe(ConfigOption.withDefault("10GiB")).annotateKey({
    description:
      "Disk that transactions in progress may take together. The pipeline ends with an error when they need more."
  })
})

const Pattern = Schema.String.check(Schema.makeFilter((text: string) =>
  TablePattern.parse(text) === undefined
    ? `expected schema.table, where * stands for any characters and odd names are in double quotes`
    : undefined
))

const empty = {}

/** What `streaming: on` stands for. */
const defaultStreaming = Schema.decodeUnknownSync(Streaming)(empty)

/** Options as written in a configuration. */
export const Config = Schema.Struct({
  ...ConnectionOptions.fields,
  primary: Schema.optionalKey(
    Schema.Struct(ConnectionOptions.fields).check(Schema.makeFilter(ConnectionOptions.problem))
  ).annotateKey({
    description:
      "How to connect to the primary server when the options above name a standby to read from (PostgreSQL 16): tables are " +
      "copied from there, and heartbeats and the publication are written there."
  }),
  publication: Publication.pipe(ConfigOption.withDefault(empty)).annotateKey({
    description: "What the server publishes."
  }),
  slot: Slot.pipe(ConfigOption.withDefault(empty)).annotateKey({
    description: "The server's memory of how far this pipeline has read."
  }),
  synchronousGuard: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description:
      "Whether changes are held back until the standbys in synchronous_standby_names have them, so that the sink never holds " +
      "what a failover undoes. With failover slots, the server's synchronized_standby_slots does the same at less cost."
  }),
  heartbeat: Heartbeat.pipe(ConfigOption.withDefault(empty)).annotateKey({
    description: "Proof that the stream is alive and that the slot is where the pipeline left it."
  }),
  tables: Schema.Array(Pattern).check(Schema.isMinLength(1)).pipe(
    ConfigOption.withDefault(["public.*"]),
    ConfigOption.withExamples(["public.orders", "billing.*"])
  ).annotateKey({
    description:
      "Tables to replicate: schema.table, schema.*, or with * anywhere in a name. Names are taken exactly as they are stored; " +
      "odd ones go in double quotes: \"My Schema\".\"a.b\"."
  }),
  snapshot: Snapshot.pipe(ConfigOption.withDefault(empty)).annotateKey({
    description: "The first copy of each table."
  }),
  removedPartitions: Schema.Literals(["copy", "keep"]).pipe(
    ConfigOption.withDefault("copy")
  ).annotateKey({
    description:
      "What happens when a partition is detached, dropped or truncated, of which the log says nothing. copy: its table is copied again, so that " +
      "the copy is exact; keep: the partition's rows stay at the destination, and a warning tells so (for tables whose old partitions are dropped)."
  }),
  messages: Schema.Array(Schema.NonEmptyString).pipe(
    ConfigOption.withDefault([])
  ).annotateKey({
    description:
      "Prefixes of the logical messages (pg_logical_emit_message) to read; a * at the end stands for anything."
  }),
  origin: Schema.Literals(["any", "none"]).pipe(
    ConfigOption.withDefault("any")
  ).annotateKey({
    description:
      "any: all changes; none: without those that were themselves replicated to this server (PostgreSQL 16 and later). The first copy of a table " +
      "has all its rows in any case."
  }),
  streaming: Schema.Union([StreamingMode, Streaming]).pipe(
    ConfigOption.withDefault("off")
  ).annotateKey({
    description: "Large transactions while they are in progress: off, on, or on with a folder and a limit of its own."
  })
}).check(Schema.makeFilter(ConnectionOptions.problem))
export type Config = typeof Config.Type

/** Options with everything decided. */
export interface Settings extends ConnectionOptions.Connection {
  /** The pipeline's name, as configured. */
  readonly pipeline: string
  readonly applicationName: string
  /** The primary server, when the pipeline reads from a standby. */
  readonly primary: ConnectionOptions.Connection | undefined
  readonly publication: { readonly name: string; readonly manage: boolean; readonly check: Duration.Duration }
  readonly slot: {
    readonly name: string
    readonly wait: Duration.Duration
    readonly onLost: "halt" | "resnapshot"
    readonly failover: boolean
  }
  readonly synchronousGuard: boolean
  readonly heartbeat: { readonly enabled: boolean; readonly every: Duration.Duration }
  readonly tables: ReadonlyArray<TablePattern.TablePattern>
  readonly snapshot: { readonly parallel: number; readonly chunkBytes: number; readonly fetchRows: number }
  readonly removedPartitions: "copy" | "keep"
  /** Prefixes of messages to read, `*` at an end standing for anything. */
  readonly messages: ReadonlyArray<string>
  readonly origin: "any" | "none"
  /** Where transactions in progress are kept, and how much of them; undefined when the server keeps them. */
  readonly streaming: { readonly directory: string; readonly diskLimit: number } | undefined
}

/**
 * A slot or publication name for a pipeline's name. A name that had to be changed gets a hash of the original, so two
 * pipelines never share a slot by accident.
 */
export const objectName = (pipeline: string): string => {
  const plain = pipeline.toLowerCase().replace(/[^a-z0-9_]/g, "_")
  if (plain === pipeline && /^.{1,63}$/.test(plain)) return plain
  const hash = createHash("sha256").update(pipeline).digest("hex").slice(0, 8)
  return `${plain.slice(0, 54)}_${hash}`
}

const streamingOf = (
  streaming: Config["streaming"],
  derived: string,
  { directory }: PluginContext
): Settings["streaming"] => {
  const options = typeof streaming === "string" ? { ...defaultStreaming, mode: streaming } : streaming
  return options.mode === "off"
    ? undefined
    : { directory: path.resolve(directory, options.directory ?? "spool", derived), diskLimit: options.diskLimit }
}

/** Decides everything that the options leave open, and reads what they refer to: files, the environment. */
export const resolve = Effect.fnUntraced(function*(
  config: Config,
  context: PluginContext
): Effect.fn.Return<Settings, ConnectorError> {
  const derived = objectName(context.pipeline)
  const connection = yield* ConnectionOptions.load(config, context.directory)
  const primary = config.primary === undefined
    ? undefined
    : yield* ConnectionOptions.load(config.primary, context.directory)
  return {
    ...connection,
    primary,
    pipeline: context.pipeline,
    applicationName: connection.applicationName ?? `etl-stream ${derived}`.slice(0, 63),
    publication: { ...config.publication, name: config.publication.name ?? derived },
    slot: { ...config.slot, name: config.slot.name ?? derived },
    synchronousGuard: config.synchronousGuard,
    heartbeat: config.heartbeat,
    tables: config.tables.flatMap((text) => TablePattern.parse(text) ?? []),
    snapshot: config.snapshot,
    removedPartitions: config.removedPartitions,
    messages: config.messages,
    origin: config.origin,
    streaming: streamingOf(config.streaming, derived, context)
  }
})

/** Whether a message's prefix is one of the wanted. */
export const takesMessage = (wanted: ReadonlyArray<string>) => (prefix: string): boolean =>
  wanted.some((one) => one.endsWith("*") ? prefix.startsWith(one.slice(0, -1)) : prefix === one)

/**
 * The options of the WAL monitor.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import { parseTableId, type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as ConnectionOptions from "./ConnectionOptions.ts"
import { Share, Trigger } from "./Trigger.ts"

/** A duration above zero with a default. */
const period = (byDefault: string, description: string) =>
  ConfigOption.Period.pipe(ConfigOption.withDefault(byDefault)).annotateKey({ description })

const SlotName = Schema.String.check(
  Schema.isPattern(/^[a-z0-9_]{1,63}$/u, { expected: "1 to 63 characters of a-z, 0-9 and _" })
)

const Table = Schema.String.check(
  Schema.makeFilter((text: string) =>
    parseTableId(text) === undefined ? "expected schema.table, odd names in double quotes" : undefined
  )
)

const SlotEntry = Schema.Struct({
  slot: SlotName.annotateKey({ description: "Name of the replication slot." }),
  pipeline: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description:
      "The pipeline of this process that reads it, and that actions act on. Default: the one whose slot has that name."
  }),
  publication: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The publication that is read through it. Default: one of the slot's name, when there is one."
  }),
  tables: Schema.optionalKey(Schema.Array(Table).check(Schema.isMinLength(1))).annotateKey({
    description: "Tables that have to be published (schema.name). Default: those that the pipeline reads."
  }),
  failover: Schema.optionalKey(Schema.Boolean).annotateKey({
    description:
      "Whether the slot has to be one that standbys keep a copy of. Default: as it was when it was seen first."
  }),
  twoPhase: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "Whether the slot has to decode prepared transactions. Default: as it was when it was seen first."
  })
})

const Triggers = Schema.Union([Trigger, Schema.Array(Trigger).check(Schema.isMinLength(1))])

const Thresholds = Schema.Struct({
  warning: Triggers.pipe(ConfigOption.withDefault(["50%", "4 hours"])).annotateKey({
    description:
      "When a slot's WAL is a warning: a share of the budget (50%), a size (10GiB), the predicted time that is left (4 hours), or a list of " +
      "them, of which any will do."
  }),
  danger: Triggers.pipe(ConfigOption.withDefault(["80%", "1 hour"])).annotateKey({
    description: "When it is critical, in the same way."
  }),
  sustained: period(
    "1 minute",
    "How long a threshold has to be passed before that is told, and how long it has to be over before that is."
  ),
  hysteresis: Share.pipe(ConfigOption.withDefault("20%")).annotateKey({
    description:
      "How far below a threshold (above it, for the time that is left) things have to be to count as over, as a share of it."
  })
})

const Action = Schema.Struct({
  at: Trigger.annotateKey({
    description:
      "When: at a share of the budget (60%), a size (12GiB), or the predicted time that is left (30 minutes)."
  }),
  do: Schema.Literals(["alert", "pause-copies", "spool", "quarantine"]).annotateKey({
    description:
      "alert: raises a condition; pause-copies: holds copies of tables up, so that the sink has room for changes; spool: keeps changes on " +
      "this machine's disk, so that the server may forget them; quarantine: sets the table aside that holds the slot back, one at a time."
  })
})
/** Something that is done about a slot whose WAL budget runs out. */
export type Action = typeof Action.Type

const empty = {}

/** Options as written in a configuration. */
export const Config = Schema.Struct({
  ...ConnectionOptions.fields,
  every: period("10 seconds", "How often the server is looked at."),
  slots: Schema.optionalKey(Schema.Array(Schema.Union([SlotName, SlotEntry])).check(Schema.isMinLength(1))).annotateKey(
    {
      description:
        "Slots to watch, by name or with more about each. Default: those named like the slot of a pipeline of this process."
    }
  ),
  budget: Schema.optionalKey(ByteSize).annotateKey({
    description:
      "WAL that a slot may keep, for example 20GiB. The server's max_slot_wal_keep_size counts too, and so does `disk`; the tightest limit most."
  }),
  disk: Schema.optionalKey(ByteSize).annotateKey({
    description:
      "What the WAL directory may grow to: the size of its disk, less what else is on it. Needs pg_monitor. Default: not known."
  }),
  window: period("10 minutes", "Over which time growth is measured."),
  thresholds: Thresholds.pipe(ConfigOption.withDefault(empty)).annotateKey({
    description: "When the WAL that a slot keeps is told about."
  }),
  actions: Schema.Array(Action).pipe(ConfigOption.withDefault([])).annotateKey({
    description: "What is done as the budget runs out, in this order."
  }),
  wait: period(
    "2 minutes",
    "How long a quarantine waits to see whether what was done before helps, and a failed action before it is tried again."
  ),
  inactive: period(
    "5 minutes",
    "How long a watched slot may be without a reader before that is told."
  ),
  idleSlots: ByteSize.pipe(ConfigOption.withDefault("1GiB")).annotateKey({
    description: "WAL that a slot of somebody else may keep without a reader before that is told."
  }),
  xminAge: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_000_000_000 })).pipe(
    ConfigOption.withDefault(500_000_000)
  ).annotateKey({
    description:
      "Transactions by which a slot may hold vacuum back (age of its xmin or catalog_xmin) before that is told."
  }),
  drift: period("1 minute", "How often publications and replica identities are looked at.")
}).check(Schema.makeFilter(ConnectionOptions.problem))
export type Config = typeof Config.Type

/** A slot to watch. */
export interface Watched {
  readonly slot: string
  readonly pipeline: string | undefined
  readonly publication: string | undefined
  readonly tables: ReadonlyArray<TableId> | undefined
  readonly failover: boolean | undefined
  readonly twoPhase: boolean | undefined
  /** Whether the options name it: then it has to be there. */
  readonly named: boolean
}

/** The name of a pipeline's slot, as the PostgreSQL source derives it when its options name none. */
export const slotOf = (pipeline: string): string => {
  const plain = pipeline.toLowerCase().replace(/[^a-z0-9_]/g, "_")
  if (plain === pipeline && /^.{1,63}$/.test(plain)) return plain
  const hash = createHash("sha256").update(pipeline).digest("hex").slice(0, 8)
  return `${plain.slice(0, 54)}_${hash}`
}

/** A table's id, however its name is quoted. */
const idOf = (text: string): TableId => {
  const name = parseTableId(text)
  return name === undefined ? text : tableId(name)
}

/** The slots to watch, while these pipelines are there. */
export const watched = ({ slots }: Pick<Config, "slots">, pipelines: ReadonlyArray<string>): ReadonlyArray<Watched> =>
  slots === undefined
    ? pipelines.map((pipeline) => ({
      slot: slotOf(pipeline),
      pipeline,
      publication: undefined,
      tables: undefined,
      failover: undefined,
      twoPhase: undefined,
      named: false
    }))
    : slots.map((entry) => {
      const given = typeof entry === "string" ? { slot: entry } : entry
      return {
        slot: given.slot,
        pipeline: given.pipeline ?? pipelines.find((pipeline) => slotOf(pipeline) === given.slot),
        publication: given.publication,
        tables: given.tables?.map(idOf),
        failover: given.failover,
        twoPhase: given.twoPhase,
        named: true
      }
    })

/** Triggers as a list. */
export const triggers = (triggers: typeof Triggers.Type): ReadonlyArray<Trigger> =>
  "_tag" in triggers ? [triggers] : triggers

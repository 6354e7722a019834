/**
 * Checks of Snowpipe Streaming.
 */
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { gzipSync } from "node:zlib"
import type { Encoding } from "../../src/BodyCoding.ts"
import type { ChannelStatus } from "../../src/StreamingAnswer.ts"
import * as StreamingErrors from "../../src/StreamingErrors.ts"
import type { Check, Context, Failure } from "./Check.ts"
import { Differs, execute, expect, same, table, tableName, value } from "./Check.ts"

const offset = (number: number): string => Sequence.format(Sequence.make(BigInt(number), 0n))

const create = (context: Context, name: string, columns: string) =>
  execute(context, `CREATE TABLE ${table(context, name)} (${columns})`)

const open = ({ streaming, ...context }: Context, name: string, channel = "CHECK", offsetToken?: string) =>
  streaming.open(tableName({ ...context, streaming }, name), channel, {
    failOnUncommittedRows: true,
    ...(offsetToken === undefined ? {} : { offsetToken })
  })

/** Appends lines as one request with the given offset. */
const append = (
  context: Context,
  name: string,
  { body, channel = "CHECK", continuationToken, encoding = "gzip", from, to }: {
    readonly continuationToken: string
    readonly from: number
    readonly to?: number
    readonly body: string | Uint8Array
    readonly channel?: string
    readonly encoding?: Encoding
  }
) => {
  const raw = typeof body === "string" ? Buffer.from(body) : body
  return context.streaming.append(tableName(context, name), channel, {
    continuationToken,
    startOffset: offset(from),
    endOffset: offset(to ?? from),
    body: encoding === "gzip" ? gzipSync(raw) : raw,
    encoding,
    rawBytes: raw.length,
    before: Effect.void
  })
}

const ndjson = (rows: ReadonlyArray<object>): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("")

const statusOf = (context: Context, name: string, channel = "CHECK"): Effect.Effect<ChannelStatus, Failure> =>
  Effect.flatMap(context.streaming.statuses(tableName(context, name), [channel]), (statuses) => {
    const status = statuses.get(channel)
    return status === undefined
      ? Effect.fail(new Differs({ message: "the channel is not in the answer" }))
      : Effect.succeed(status)
  })

/** Waits until the channel has committed `number`. */
const committed = (context: Context, name: string, number: number, channel = "CHECK") =>
  statusOf(context, name, channel).pipe(
    Effect.repeat({
      schedule: Schedule.max([Schedule.spaced("500 millis"), Schedule.recurs(240)]),
      until: (status) => status.committed === offset(number)
    }),
    Effect.tap((status) => same(status.committed, offset(number), "the committed offset after two minutes"))
  )

/** What a refusal of an append asks for. */
const refusal = (appended: ReturnType<typeof append>) =>
  Effect.matchEffect(appended, {
    onFailure: ({ action }) => Effect.succeed(action),
    onSuccess: () => Effect.fail(new Differs({ message: "it is taken" }))
  })

const login: Check = {
  ids: ["A01"],
  title: "the hostname and a token are to be had, in one of the forms that are understood",
  run: ({ streaming }) => streaming.login
}

const appending: Check = {
  ids: ["A04", "A06", "A11", "A56"],
  title:
    "a new table's default pipe matches columns by name, offset tokens come back, and what is committed is visible",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "APPENDED", `"ID" NUMBER(38,0), "NOTE" VARCHAR`)
    const { continuationToken, status } = yield* open(context, "APPENDED")
    yield* same(status.committed ?? null, null, "the offset of a new channel")
    yield* append(context, "APPENDED", {
      continuationToken,
      from: 1,
      to: 2,
      body: ndjson([{ NOTE: "first", ID: 1 }, { ID: 2, NOTE: "second" }])
    })
    yield* committed(context, "APPENDED", 2)
    const { rows } = yield* execute(context, `SELECT * FROM ${table(context, "APPENDED")} ORDER BY "ID"`)
    yield* same(rows, [{ ID: "1", NOTE: "first" }, { ID: "2", NOTE: "second" }], "the rows")
  })
}

const offsets: Check = {
  ids: ["A03"],
  title: "opening with an offset sets the committed one at once",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "OFFSETS", `"ID" NUMBER(38,0)`)
    yield* open(context, "OFFSETS")
    const { status } = yield* open(context, "OFFSETS", "CHECK", offset(7))
    yield* same(status.committed, offset(7), "the answer's offset")
    yield* same((yield* statusOf(context, "OFFSETS")).committed, offset(7), "the status's offset")
  })
}

const fencing: Check = {
  ids: ["A09"],
  title: "a writer whose channel was opened by another is refused, and told to open it anew",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "FENCED", `"ID" NUMBER(38,0)`)
    const older = yield* open(context, "FENCED")
    yield* open(context, "FENCED")
    const asked = yield* refusal(append(context, "FENCED", {
      continuationToken: older.continuationToken,
      from: 1,
      body: ndjson([{ ID: 1 }])
    }))
    yield* same(asked, "reopen", "what the refusal asks for")
  })
}

const size: Check = {
  ids: ["A05"],
  title: "a request of 3.9 million bytes is taken, and one of 4.3 million refused as too large",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "SIZES", `"T" VARCHAR`)
    const { continuationToken } = yield* open(context, "SIZES")
    const body = (bytes: number) => ndjson([{ T: "x".repeat(bytes - 9) }])
    const next = yield* append(context, "SIZES", {
      continuationToken,
      from: 1,
      body: body(3_900_000),
      encoding: "identity"
    })
    const asked = yield* refusal(
      append(context, "SIZES", { continuationToken: next, from: 2, body: body(4_300_000), encoding: "identity" })
    )
    yield* same(asked, "split", "what the refusal asks for")
    yield* committed(context, "SIZES", 1)
  })
}

const skipped: Check = {
  ids: ["A07", "A12"],
  title: "a row that can't be converted is skipped and counted, and dropping the channel forgets the count",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "SKIPPED", `"ID" NUMBER(38,0)`)
    const { continuationToken } = yield* open(context, "SKIPPED")
    yield* append(context, "SKIPPED", {
      continuationToken,
      from: 1,
      to: 2,
      body: ndjson([{ ID: "no number" }, { ID: 2 }])
    })
    yield* committed(context, "SKIPPED", 2)
    yield* same((yield* statusOf(context, "SKIPPED")).errors, 1, "the count of skipped rows")
    yield* context.streaming.drop(tableName(context, "SKIPPED"), "CHECK")
    yield* same((yield* open(context, "SKIPPED")).status.errors, 0, "the count after the channel was dropped")
  })
}

const values: Check = {
  ids: ["A13", "A14"],
  title: "NaN and the infinities are taken as strings, and JSON null becomes SQL NULL in a VARIANT",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "SPECIAL", `"ID" NUMBER(38,0), "F" FLOAT, "V" VARIANT`)
    const { continuationToken } = yield* open(context, "SPECIAL")
    const rows = [{ ID: 1, F: "NaN", V: null }, { ID: 2, F: "inf", V: { a: null } }, { ID: 3, F: "-inf", V: "text" }]
    yield* append(context, "SPECIAL", { continuationToken, from: 1, to: 3, body: ndjson(rows) })
    yield* committed(context, "SPECIAL", 3)
    const found = yield* execute(
      context,
      `SELECT IFF("F" = 'NaN'::FLOAT, 'nan', IFF("F" > 1e308, 'high', 'low')) AS "f", "V" IS NULL AS "v" FROM ${
        table(context, "SPECIAL")
      } ORDER BY "ID"`
    )
    yield* same(
      found.rows.map(({ f, v }) => [f, v]),
      [["nan", true], ["high", false], ["low", false]],
      "the values"
    )
  })
}

const names: Check = {
  ids: ["A15", "A51", "A52"],
  title: "a pipe takes several channels, whose names are case-sensitive, and tells of 100 in one answer",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "NAMED", `"ID" NUMBER(38,0)`)
    const channels = ["CHECK", "check", "CHECK_3"]
    for (const [index, channel] of channels.entries()) {
      const { continuationToken } = yield* open(context, "NAMED", channel)
      yield* append(context, "NAMED", { continuationToken, channel, from: index + 1, body: ndjson([{ ID: index }]) })
    }
    for (const [index, channel] of channels.entries()) yield* committed(context, "NAMED", index + 1, channel)
    const asked = [...channels, ...Array.from({ length: 97 }, (_, index) => `ABSENT_${index}`)]
    const statuses = yield* context.streaming.statuses(tableName(context, "NAMED"), asked)
    yield* same([...statuses.keys()].sort(), [...channels].sort(), "channels that are told of")
    const counted = yield* execute(context, `SELECT COUNT(*) FROM ${table(context, "NAMED")}`)
    yield* same(value(counted), "3", "rows")
  })
}

const alteration: Check = {
  ids: ["A32", "A74"],
  title: "DDL beside a channel loses no row, and a channel that is opened after it takes the columns as they are then",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "ALTERED", `"ID" NUMBER(38,0), "OLD" VARCHAR`)
    const { continuationToken } = yield* open(context, "ALTERED")
    yield* append(context, "ALTERED", { continuationToken, from: 1, body: ndjson([{ ID: 1, OLD: "a" }]) })
    yield* execute(context, `ALTER TABLE ${table(context, "ALTERED")} ADD COLUMN "MORE" VARCHAR`)
    yield* committed(context, "ALTERED", 1)
    yield* execute(context, `ALTER TABLE ${table(context, "ALTERED")} RENAME COLUMN "OLD" TO "NEW"`)
    const reopened = yield* open(context, "ALTERED")
    yield* expect(StreamingErrors.isHealthy(reopened.status.code), `the channel's status is ${reopened.status.code}`)
    yield* append(context, "ALTERED", {
      continuationToken: reopened.continuationToken,
      from: 2,
      body: ndjson([{ ID: 2, NEW: "b", MORE: "c" }])
    })
    yield* committed(context, "ALTERED", 2)
    const { rows } = yield* execute(context, `SELECT * FROM ${table(context, "ALTERED")} ORDER BY "ID"`)
    yield* same(rows, [{ ID: "1", NEW: "a", MORE: null }, { ID: "2", NEW: "b", MORE: "c" }], "the rows")
  })
}

export const checks: ReadonlyArray<Check> = [
  login,
  appending,
  offsets,
  fencing,
  size,
  skipped,
  values,
  names,
  alteration
]

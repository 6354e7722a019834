/**
 * A real server's frames, damaged in every way: the decoder takes them or refuses them with a documented error, and counts every change that it
 * takes. It never crashes and never passes over a change.
 */
import { assert, layer } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import * as Lsn from "../src/Lsn.ts"
import * as PgOutputDecoder from "../src/PgOutputDecoder.ts"
import * as PostgresType from "../src/PostgresType.ts"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import * as Pg from "./pgoutputMessages.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Frame header, `w` and its three fields. */
const xlogHeader = 30

const setup = `
  CREATE TABLE keyed (id int PRIMARY KEY, n numeric, t timestamptz, b bytea, f float8, s text, u uuid, a int[]);
  CREATE TABLE whole (x text, y bool, z date); ALTER TABLE whole REPLICA IDENTITY FULL;
  CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
  ALTER TABLE keyed ALTER COLUMN s SET STORAGE EXTERNAL; CREATE TYPE mood AS ENUM ('sad', 'glad'); ALTER TABLE whole ADD COLUMN m mood;
  CREATE PUBLICATION damage FOR TABLE keyed, whole, parts; SELECT pg_replication_origin_create('damage');`

const traffic = [
  `INSERT INTO keyed VALUES (1, 1.5, now(), '\\x00ff', 1e300, repeat('x', 5000), gen_random_uuid(), '{1,2}'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
   UPDATE keyed SET n = 'NaN' WHERE id = 1; UPDATE keyed SET id = 3 WHERE id = 1; DELETE FROM keyed WHERE id = 2;`,
  `INSERT INTO whole VALUES ('a', true, '2000-01-01', 'sad'), (NULL, NULL, NULL, NULL); UPDATE whole SET y = false; DELETE FROM whole WHERE x = 'a'`,
  `SELECT pg_replication_origin_session_setup('damage'); COMMIT; BEGIN; INSERT INTO parts VALUES (1, 'v'); COMMIT; SELECT pg_replication_origin_session_reset()`,
  `SELECT pg_logical_emit_message(true, 'app', 'content'); INSERT INTO parts VALUES (2, 'v'); TRUNCATE keyed, whole`,
  `SELECT pg_logical_emit_message(false, 'app', 'content'); ALTER TABLE parts ADD COLUMN w int; UPDATE parts SET w = 1`
]

/** The frames of everything up to `target`. */
const capture = (target: bigint) =>
  Effect.gen(function*() {
    const { database, host, password, port, user } = yield* Server
    const connection = yield* ReplicationConnection.connect({ host, port, user, password, database })
    const stream = yield* connection.start({
      slot: "damage",
      publications: ["damage"],
      messages: true,
      acknowledged: () => 0n
    })
    const frames: Array<Buffer> = []
    for (;;) {
      const { bytes, end, start } = yield* stream.pull
      const view = Buffer.from(bytes.slice(start, end))
      for (let at = 0; at < view.length;) {
        const length = 1 + view.readUInt32BE(at + 1)
        frames.push(view.subarray(at, at + length))
        at += length
      }
      const last = frames.at(-1)
      if (last !== undefined && last[5] === 0x6b && last.readBigUInt64BE(6) >= target) return frames
    }
  }).pipe(Effect.scoped)

const identityOf = ({ columns, replicaIdentity }: PgOutputDecoder.Relation): Identity => {
  const key = columns.flatMap((column, index) => column.key ? [index] : [])
  return replicaIdentity === "f"
    ? { _tag: "Full" }
    : key.length === 0
    ? { _tag: "None" }
    : { _tag: "Key", columns: key }
}

/** A decoder that takes every table as it is announced. */
const make = () =>
  PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation): TableSchema => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map(({ name, typeOid, typmod }) => ({
        name,
        nullable: true,
        ...PostgresType.resolve(PostgresType.emptyCatalog, typeOid, typmod)
      })),
      identity: identityOf(relation)
    })
  })

const rowsOf = (elements: ReadonlyArray<Element>): number =>
  elements.reduce((sum, element) => sum + (element._tag === "Rows" ? element.batch.rows : 0), 0)

/** How many rows the frames' changes are at least and at most: an update is one row or two. */
const expectedRows = (frames: ReadonlyArray<Buffer>): readonly [least: number, most: number] => {
  const kinds = frames.filter((frame) => frame[5] === 0x77).map((frame) => String.fromCharCode(frame[xlogHeader] ?? 0))
  const count = (kind: string) => kinds.filter((one) => one === kind).length
  const single = count("I") + count("D")
  return [single + count("U"), single + 2 * count("U")]
}

const decode = (frames: ReadonlyArray<Buffer>) =>
  frames.length === 0
    ? Effect.succeed([])
    : Effect.tap(make().decode(Pg.view(...frames)), (elements) => {
      const failed = elements.find((element) => element._tag === "TableFailed")
      return failed === undefined ? Effect.void : Effect.fail(failed.error)
    })

/** What may be wrong: with the bytes, with a value that can't be carried, with the tables' settings. */
const documented = new Set(["Protocol", "Unsupported", "Misconfigured"])

const resized = (frame: Buffer): Buffer => {
  frame.writeUInt32BE(frame.length - 1, 1)
  return frame
}

const damages: Readonly<Record<string, (frames: Array<Buffer>, at: number, value: number) => void>> = {
  byte: (frames, at, value) => {
    const frame = frames[at % frames.length] ?? Buffer.alloc(6)
    // The frame's own length is what the reader of the socket has checked.
    frame[5 + (at * 31 + value) % (frame.length - 5)] = value
  },
  cut: (frames, at, value) => {
    const index = at % frames.length
    const frame = frames[index] ?? Buffer.alloc(6)
    frames[index] = resized(Buffer.from(frame.subarray(0, 5 + (at * 31 + value) % (frame.length - 5))))
  },
  grow: (frames, at, value) => {
    const index = at % frames.length
    frames[index] = resized(Buffer.concat([frames[index] ?? Buffer.alloc(6), Buffer.alloc(1 + at % 9, value)]))
  },
  drop: (frames, at) => {
    frames.splice(at % frames.length, 1)
  },
  repeat: (frames, at) => {
    const index = at % frames.length
    frames.splice(index, 0, Buffer.from(frames[index] ?? []))
  },
  swap: (frames, at, value) => {
    const [a, b] = [at % frames.length, value % frames.length]
    const held = frames[a] ?? Buffer.alloc(0)
    frames[a] = frames[b] ?? Buffer.alloc(0)
    frames[b] = held
  },
  splice: (frames, at, value) => {
    const index = at % frames.length
    const frame = frames[index] ?? Buffer.alloc(6)
    const other = frames[value % frames.length] ?? Buffer.alloc(6)
    const from = 5 + at % (frame.length - 5)
    frames[index] = resized(Buffer.concat([frame.subarray(0, from), other.subarray(Math.min(from, other.length))]))
  }
}

const damageNames = Object.keys(damages)

layer(Server.layer, { excludeTestServices: true })("DecoderDamage", (it) => {
  it.effect("any damage to a server's frames is taken with every change counted, or refused with a documented error", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("damage", setup)
      yield* pg.query("SELECT pg_create_logical_replication_slot('damage', 'pgoutput')")
      for (const sql of traffic) yield* write(sql)
      const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
      const frames = yield* capture(Lsn.parse(String(row?.["lsn"])) ?? 0n)
      const kinds = new Set(
        frames.map((frame) => String.fromCharCode(frame[5] === 0x77 ? frame[xlogHeader] ?? 0 : 0x6b))
      )
      assert.deepStrictEqual([...kinds].sort(), [..."BCDIMORTUYk"].sort())
      assert.isAtLeast(rowsOf(yield* decode(frames)), expectedRows(frames)[0])

      const step = fc.tuple(
        fc.constantFrom(...damageNames),
        fc.nat({ max: 1_000_000 }),
        fc.integer({ min: 0, max: 255 })
      )
      const cases = fc.sample(fc.array(step, { minLength: 1, maxLength: 3 }), { numRuns: 4000, seed: 3141 })
      const outcomes = new Map<string, number>()
      for (const steps of cases) {
        const damaged = frames.map((frame) => Buffer.from(frame))
        for (const [name, at, value] of steps) if (damaged.length > 0) damages[name]?.(damaged, at, value)
        const result = yield* Effect.result(decode(damaged))
        const outcome = result._tag === "Failure" ? result.failure.reason : "taken"
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
        if (result._tag === "Failure") {
          assert.instanceOf(result.failure, ConnectorError)
          assert.isTrue(documented.has(result.failure.reason), `${result.failure.reason}: ${result.failure.message}`)
        } else {
          const [least, most] = expectedRows(damaged)
          const rows = rowsOf(result.success)
          assert.isTrue(rows >= least && rows <= most, `${rows} rows of ${least} to ${most}: ${JSON.stringify(steps)}`)
        }
      }
      assert.isAbove(outcomes.get("Protocol") ?? 0, 1000)
      assert.isAbove(outcomes.get("taken") ?? 0, 200)
    }))

  it.effect("a change whose kind is damaged stays a change, or is refused, whatever it turns into", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "kinds",
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION kinds FOR TABLE t"
      )
      yield* pg.query(
        "SELECT pg_drop_replication_slot('damage'), pg_create_logical_replication_slot('damage', 'pgoutput')"
      )
      yield* write("INSERT INTO t VALUES (1, 'one'), (2, NULL); ALTER PUBLICATION damage ADD TABLE t")
      yield* write("INSERT INTO t VALUES (3, 'three'); UPDATE t SET v = 'x' WHERE id = 3; DELETE FROM t WHERE id = 3")
      const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
      const frames = yield* capture(Lsn.parse(String(row?.["lsn"])) ?? 0n)
      const rows = rowsOf(yield* decode(frames))
      let changes = 0
      for (const [index, frame] of frames.entries()) {
        const kind = String.fromCharCode(frame[xlogHeader] ?? 0)
        if (frame[5] !== 0x77 || !"IUD".includes(kind)) continue
        changes++
        for (let other = 0; other < 256; other++) {
          if (other === kind.charCodeAt(0)) continue
          const damaged = frames.map((one) => Buffer.from(one))
          damaged[index]?.writeUInt8(other, xlogHeader)
          const result = yield* Effect.result(decode(damaged))
          // An insert looks like an update without an old row.
          if (result._tag === "Success") assert.strictEqual(rowsOf(result.success), rows, `${kind} to ${other}`)
          else assert.strictEqual(result.failure.reason, "Protocol", `${kind} to ${other}`)
        }
      }
      assert.strictEqual(changes, 3)
    }))
})

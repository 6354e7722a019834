/**
 * The pgoutput protocol, version 1, from whole frames to elements ("Logical Replication Message Formats" in
 * PostgreSQL's documentation).
 *
 * One pass over a view: rows go into their tables' builders, barriers cut them, and the end of the view flushes whatever
 * was touched, so no row waits for a later read. A `Watermark` follows for the last transaction that ended within the view;
 * a transaction larger than a view comes in pieces, without one until it ends.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import { type TableId, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import * as CompletedUpdate from "./completedUpdate.ts"
import type { DecoderOptions } from "./decoderOptions.ts"
import { type Frames, uint32At } from "./frameBuffer.ts"
import * as IncompleteChange from "./incompleteChange.ts"
import * as LogicalMessage from "./logicalMessage.ts"
import { malformedMessage } from "./malformedMessage.ts"
import * as Relation from "./relation.ts"
import { checkOld, unidentified } from "./replicaIdentity.ts"
import * as TableChanges from "./tableChanges.ts"
import * as Tuple from "./tuple.ts"

const CopyData = 0x64
const XLogData = 0x77
const Keepalive = 0x6b
const KeyTuple = 0x4b
const OldTuple = 0x4f
const NewTuple = 0x4e

/** Frame header, `w`, and three 64-bit fields. */
const xlogHeader = 5 + 1 + 24

/** From 1970-01-01 to 2000-01-01 in microseconds, 946,684,800,000,000, as two halves. */
const epochHigh = 220_417
const epochLow = 946_684_800_000_000 - epochHigh * 0x100000000

/** More builders than this, or such with more memory, aren't kept from view to view: nothing but the decoder knows of it. */
const heldBuilders = 64
const heldBytes = 16 * 1024 * 1024

const bigintOf = (high: number, low: number): bigint => BigInt(high) << 32n | BigInt(low)

/** A relation's plan with its table, undefined for a table that isn't replicated. */
interface Target {
  readonly plan: Relation.Plan
  readonly table: TableChanges.TableChanges
  readonly old: Tuple.Located
  readonly row: Tuple.Located
}

export class Decoder {
  /** Where decoding stands, for errors: the message's WAL position and the table and column it is about. */
  messageHigh = 0
  messageLow = 0
  readonly progress: Tuple.Progress = { column: -1 }
  plan: Relation.Plan | undefined
  private readonly options: DecoderOptions
  /** The change at which decoding stopped, to go on with `resume`. */
  incomplete: IncompleteChange.IncompleteChange | undefined
  private stopped: IncompleteChange.Stopped | undefined
  private readonly targets = new Map<number, Target | undefined>()
  /** The relation that changed last, with its target: most changes are of the same as the one before. */
  private lastOid = -1
  private lastTarget: Target | undefined
  /** Relations as they were announced last, also those that aren't replicated. */
  private readonly relations = new Map<number, Relation.Relation>()
  private readonly tables = new Map<TableId, TableChanges.TableChanges>()
  private readonly held = new Set<TableChanges.TableChanges>()
  private touched: Array<TableChanges.TableChanges> = []
  private elements: Array<Element> = []
  private inTransaction = false
  private commitHigh = 0
  private commitLow = 0
  private timeHigh = 0
  private timeLow = 0
  /** Row-changing messages of the transaction so far. */
  private changes = 0
  private hasCommitted = false
  private watermark = false
  private endHigh = 0
  private endLow = 0
  private endTimeHigh = 0
  private endTimeLow = 0

  constructor(options: DecoderOptions) {
    this.options = options
    for (const schema of options.tables) {
      const table = TableChanges.make(schema, schema, options.copied)
      this.tables.set(table.id, table)
    }
  }

  /**
   * Takes the changes of a table that wasn't replicated so far, or takes those of one that was anew: every change that commits at the
   * position that is returned, or later, comes from now on. It is at least `floor`.
   */
  track(schema: TableSchema, floor: bigint): bigint {
    // Of a transaction that is under way some changes may have been left out.
    const next = this.inTransaction
      ? bigintOf(this.commitHigh, this.commitLow) + 1n
      : bigintOf(this.endHigh, this.endLow)
    const from = next > floor ? next : floor
    const id = tableId(schema.table)
    this.tables.set(id, TableChanges.make(schema, schema, new Map([[id, from]])))
    for (const relation of this.relations.values()) {
      const known = this.targets.get(relation.oid)
      if (known === undefined || known.table.id === id) this.aim(relation, from)
    }
    return from
  }

  /** Decodes until the end, or until a change that has to be completed (`incomplete`). */
  decode(frames: Frames): Array<Element> {
    this.frames(frames, frames.start)
    return this.taken()
  }

  /** Goes on after `incomplete` with the values that it lacks; undefined when its row is there no more, and then it stays as it is. */
  resume(values: ReadonlyMap<string, string | null> | undefined): Array<Element> {
    const { stopped } = this
    if (stopped === undefined) throw new TypeError("no change waits to be completed")
    this.incomplete = undefined
    this.stopped = undefined
    const { frames, next, plan, row, start } = stopped
    const message = values === undefined
      ? frames.bytes.subarray(start, next)
      : CompletedUpdate.encode(stopped, plan, row, values)
    try {
      this.update(message, 0, message.length, true)
    } catch (cause) {
      this.fails(cause)
    }
    this.frames(frames, next)
    return this.taken()
  }

  private frames(frames: Frames, start: number): void {
    const { bytes, end } = frames
    for (let at = start; at < end;) {
      if (end - at < 5) malformedMessage("a frame that is cut off")
      const limit = at + 1 + uint32At(bytes, at + 1)
      if (limit > end || limit < at + 5) malformedMessage("a frame that is cut off")
      if (bytes[at] === CopyData) this.copyData(bytes, at, limit)
      if (this.stopped !== undefined) {
        Object.assign(this.stopped, { frames, next: limit })
        return
      }
      at = limit
    }
  }

  /** The elements so far, with a watermark when a transaction ended. */
  private taken(): Array<Element> {
    for (const table of this.touched) table.flush(this.elements)
    this.touched.length = 0
    this.release()
    if (this.watermark) {
      this.watermark = false
      this.elements.push({
        _tag: "Watermark",
        position: bigintOf(this.endHigh, this.endLow),
        commitTime: this.hasCommitted
          ? BigInt.asIntN(64, bigintOf(this.endTimeHigh >>> 0, this.endTimeLow >>> 0))
          : undefined
      })
    }
    const { elements } = this
    this.elements = []
    return elements
  }

  /** Gives up builders when they have more than may be kept. */
  private release(): void {
    let bytes = 0
    for (const table of this.held) bytes += table.held
    if (bytes <= heldBytes && this.held.size <= heldBuilders) return
    for (const table of this.held) table.release()
    this.held.clear()
  }

  private copyData(bytes: Uint8Array, at: number, limit: number): void {
    const kind = bytes[at + 5]
    if (kind === XLogData) {
      if (limit - at < xlogHeader + 1) malformedMessage("a WAL message that is too short")
      this.messageHigh = uint32At(bytes, at + 6)
      this.messageLow = uint32At(bytes, at + 10)
      this.contained(bytes, at + xlogHeader, limit)
    } else if (kind === Keepalive) {
      if (limit - at !== 23) malformedMessage("a keepalive of the wrong length")
      // Within a transaction its position may lie behind changes that are still to come.
      if (!this.inTransaction) this.reached(uint32At(bytes, at + 6), uint32At(bytes, at + 10))
    } else malformedMessage("a replication message of a kind that is not known")
  }

  /** Takes a message. What is wrong with one table alone ends that table: the message has been counted, and the next one begins where it ends. */
  private contained(bytes: Uint8Array, at: number, limit: number): void {
    try {
      this.message(bytes, at, limit)
    } catch (cause) {
      this.fails(cause)
    }
  }

  private fails(cause: unknown): void {
    const { plan } = this
    const error = plan === undefined ? undefined : this.options.tableError(cause)
    if (plan === undefined || error === undefined) throw cause
    this.giveUp(plan.schema.table, error)
  }

  /** Nothing more comes of a table. */
  giveUp(name: TableName, error: ConnectorError): void {
    this.plan = undefined
    const table = this.tables.get(tableId(name))
    if (table === undefined) return
    const schema = table.current
    table.fail()
    this.elements.push({ _tag: "TableFailed", table: schema, error })
  }

  private message(bytes: Uint8Array, at: number, limit: number): void {
    const body = at + 1
    switch (bytes[at]) {
      case 0x49: // I
        return this.insert(bytes, body, limit)
      case 0x55: // U
        return this.update(bytes, body, limit)
      case 0x44: // D
        return this.delete(bytes, body, limit)
      case 0x42: // B
        return this.begin(bytes, body, limit)
      case 0x43: // C
        return this.commit(bytes, body, limit)
      case 0x52: // R
        return this.relation(bytes, body, limit)
      case 0x54: // T
        return this.truncate(bytes, body, limit)
      case 0x4d: // M
        return this.logicalMessage(bytes, body, limit)
      case 0x4f: // O, the origin of the transaction: its commit there, its name
        return passOver(bytes, body + 8, limit, 1, "an Origin message")
      case 0x59: // Y, a type's schema and name: the catalog knows it
        return passOver(bytes, body + 4, limit, 2, "a Type message")
    }
    malformedMessage(`a message of type 0x${(bytes[at] as number).toString(16)} that is not known`) // at < limit
  }

  private begin(bytes: Uint8Array, at: number, limit: number): void {
    if (limit - at !== 20) malformedMessage("a Begin message of the wrong length")
    if (this.inTransaction) malformedMessage("a Begin message within a transaction")
    this.inTransaction = true
    this.changes = 0
    this.commitHigh = uint32At(bytes, at)
    this.commitLow = uint32At(bytes, at + 4)
    const low = uint32At(bytes, at + 12) + epochLow
    this.timeLow = low >>> 0
    this.timeHigh = uint32At(bytes, at + 8) + epochHigh + (low >= 0x100000000 ? 1 : 0) | 0
  }

  private commit(bytes: Uint8Array, at: number, limit: number): void {
    if (limit - at !== 25) malformedMessage("a Commit message of the wrong length")
    if (!this.inTransaction) malformedMessage("a Commit message outside of a transaction")
    if (uint32At(bytes, at + 1) !== this.commitHigh || uint32At(bytes, at + 5) !== this.commitLow) {
      malformedMessage("a Commit message of another transaction")
    }
    this.inTransaction = false
    this.hasCommitted = true
    this.endTimeHigh = this.timeHigh
    this.endTimeLow = this.timeLow
    this.reached(uint32At(bytes, at + 9), uint32At(bytes, at + 13))
  }

  /** Everything up to this position has come. */
  private reached(high: number, low: number): void {
    if (high < this.endHigh || (high === this.endHigh && low <= this.endLow)) return
    this.endHigh = high
    this.endLow = low
    this.watermark = true
  }

  private relation(bytes: Uint8Array, at: number, limit: number): void {
    const relation = Relation.parse(bytes, at, limit)
    this.relations.set(relation.oid, relation)
    this.aim(relation, bigintOf(this.commitHigh, this.commitLow))
  }

  /** Decides where the changes of a relation go. */
  private aim(relation: Relation.Relation, commit: bigint): void {
    this.lastOid = -1
    const schema = this.options.resolveRelation(relation, commit)
    if (schema === undefined) {
      this.targets.set(relation.oid, undefined)
      return
    }
    const id = tableId(schema.table)
    let table = this.tables.get(id)
    if (table === undefined) {
      table = TableChanges.make(schema, undefined, this.options.copied)
      this.tables.set(id, table)
    }
    // Rows so far belong to the old plan's shape; they stay in the builder unless the shape changes (`change`).
    const columns = relation.columns.length
    this.targets.set(relation.oid, {
      plan: Relation.compile(relation, schema, this.options.types, this.options.namesNow(relation)),
      table,
      old: Tuple.makeLocated(columns),
      row: Tuple.makeLocated(columns)
    })
  }

  /** The target of the relation at `at`, undefined when its change is to be left out. Counts nothing. */
  private target(bytes: Uint8Array, at: number, limit: number): Target | undefined {
    if (!this.inTransaction) malformedMessage("a change outside of a transaction")
    if (limit - at < 4) malformedMessage("a change without a relation")
    const oid = uint32At(bytes, at)
    const target = oid === this.lastOid ? this.lastTarget : this.targets.get(oid)
    if (target === undefined) {
      if (!this.targets.has(oid)) malformedMessage(`a change of relation ${oid}, which was not announced`)
      return undefined
    }
    this.lastOid = oid
    this.lastTarget = target
    const { plan, table } = target
    if (table.failed || table.isCopied(this.commitHigh, this.commitLow)) return undefined
    this.plan = plan
    if (!table.accepts(plan.schema)) table.become(plan.schema, this.sequence(this.changes * 2), this.elements)
    if (table.rows === 0) {
      // First row of a batch: it is flushed at the end of the view.
      this.touched.push(table)
      this.held.add(table)
    }
    return target
  }

  private sequence(ordinal: number): Sequence.Sequence {
    return Sequence.make(bigintOf(this.commitHigh, this.commitLow), BigInt(ordinal))
  }

  /** Ends a change's row: cuts the batch when it is large enough. */
  private added(target: Target, rows: number, messageBytes: number): void {
    const { table } = target
    table.rows += rows
    table.bytes += messageBytes + target.plan.rowBytes * rows
    if (table.rows >= this.options.maxRows || table.bytes >= this.options.maxBytes) table.flush(this.elements)
    this.plan = undefined
  }

  private row(table: TableChanges.TableChanges, op: Operation, ordinal: number): void {
    table.target.begin(op, this.commitHigh, this.commitLow, ordinal, this.timeHigh, this.timeLow)
  }

  private insert(bytes: Uint8Array, at: number, limit: number): void {
    const target = this.target(bytes, at, limit)
    const ordinal = this.changes++ * 2 + 1
    if (target === undefined) return
    const { plan, table } = target
    if (bytes[at + 4] !== NewTuple || limit - at < 7) malformedMessage("an Insert message without a row")
    this.row(table, Operation.Insert, ordinal)
    if (Tuple.appendRow(plan, table.target, this.progress, bytes, at + 5, limit) !== limit) {
      malformedMessage("bytes after a row")
    }
    this.added(target, 1, limit - at)
  }

  /** `given`: it was completed as far as can be. */
  private update(bytes: Uint8Array, at: number, limit: number, given = false): void {
    const target = this.target(bytes, at, limit)
    const change = this.changes++ * 2
    if (target === undefined) return
    const kind = bytes[at + 4]
    if (limit - at < 7) malformedMessage("an Update message without a row")
    if (kind === NewTuple) {
      const { plan, table } = target
      if (plan.schema.identity._tag !== "Key") throw unidentified(plan, "updates")
      this.row(table, Operation.Update, change + 1)
      if (Tuple.appendRow(plan, table.target, this.progress, bytes, at + 5, limit) !== limit) {
        malformedMessage("bytes after a row")
      }
      this.added(target, 1, limit - at)
    } else if (kind === KeyTuple || kind === OldTuple) this.updateWithOld(target, kind, bytes, at, limit, change, given)
    else malformedMessage("an Update message without a row")
  }

  private updateWithOld(
    target: Target,
    kind: number,
    bytes: Uint8Array,
    at: number,
    limit: number,
    change: number,
    given: boolean
  ): void {
    const { old, plan, row, table } = target
    const middle = Tuple.locate(plan, old, bytes, at + 5, limit)
    if (middle >= limit || bytes[middle] !== NewTuple) malformedMessage("an Update message without a new row")
    if (Tuple.locate(plan, row, bytes, middle + 1, limit) !== limit) malformedMessage("bytes after a row")
    checkOld(plan, old, kind === OldTuple, "updates")
    Tuple.complete(row, old)
    const builder = table.target
    if (plan.schema.identity._tag === "Key" && !Tuple.keyDiffers(plan, bytes, old, row)) {
      this.row(table, Operation.Update, change + 1)
      Tuple.appendLocated(plan, builder, this.progress, bytes, row)
      this.added(target, 1, limit - at)
      return
    }
    if (!given && row.kinds.includes(Tuple.Unchanged) && this.isIncomplete(table)) {
      this.stop(target, bytes, at, middle)
      return
    }
    this.row(table, Operation.KeyChangeOld, change)
    Tuple.appendLocated(plan, builder, this.progress, bytes, old)
    this.row(table, Operation.KeyChangeNew, change + 1)
    Tuple.appendLocated(plan, builder, this.progress, bytes, row)
    this.added(target, 2, limit - at)
  }

  private isIncomplete(table: TableChanges.TableChanges): boolean {
    return this.options.mustBeComplete(table.id, bigintOf(this.commitHigh, this.commitLow))
  }

  /** Leaves the message for `resume`: it counts when it is complete. */
  private stop({ plan, row }: Target, bytes: Uint8Array, start: number, newAt: number): void {
    this.changes--
    this.plan = undefined
    this.incomplete = IncompleteChange.describe(plan, row, bytes)
    this.stopped = { bytes, start, newAt, plan, row, frames: { bytes, start, end: start }, next: start }
  }

  private delete(bytes: Uint8Array, at: number, limit: number): void {
    const target = this.target(bytes, at, limit)
    const ordinal = this.changes++ * 2 + 1
    if (target === undefined) return
    const { old, plan, table } = target
    const kind = bytes[at + 4]
    if ((kind !== KeyTuple && kind !== OldTuple) || limit - at < 7) malformedMessage("a Delete message without a row")
    if (Tuple.locate(plan, old, bytes, at + 5, limit) !== limit) malformedMessage("bytes after a row")
    checkOld(plan, old, kind === OldTuple, "deletes")
    this.row(table, Operation.Delete, ordinal)
    Tuple.appendLocated(plan, table.target, this.progress, bytes, old)
    this.added(target, 1, limit - at)
  }

  private truncate(bytes: Uint8Array, at: number, limit: number): void {
    if (!this.inTransaction) malformedMessage("a change outside of a transaction")
    if (limit - at < 5) malformedMessage("a Truncate message that is too short")
    const count = uint32At(bytes, at)
    if (limit - at - 5 !== count * 4) malformedMessage("a Truncate message of the wrong length")
    const sequence = this.sequence(this.changes * 2 + 1)
    const commitTime = BigInt.asIntN(64, bigintOf(this.timeHigh >>> 0, this.timeLow >>> 0))
    // Several relations may be partitions of one table.
    const emptied = new Map<TableChanges.TableChanges, Array<number>>()
    for (let index = 0; index < count; index++) {
      const relation = uint32At(bytes, at + 5 + index * 4)
      const target = this.target(bytes, at + 5 + index * 4, limit)
      if (target === undefined) continue
      const relations = emptied.get(target.table)
      if (relations === undefined) emptied.set(target.table, [relation])
      else relations.push(relation)
    }
    for (const [table, relations] of emptied) {
      if (!this.options.truncates(relations, sequence.commit)) continue
      table.flush(this.elements)
      this.elements.push({ _tag: "Truncate", table: table.current, sequence, commitTime })
    }
    this.changes++
    this.plan = undefined
  }

  private logicalMessage(bytes: Uint8Array, at: number, limit: number): void {
    const { content, prefix, transactional } = LogicalMessage.parse(bytes, at, limit)
    if (transactional && !this.inTransaction) malformedMessage("a transactional message outside of a transaction")
    if (!this.options.takesMessage(prefix)) return
    for (const table of this.touched) table.flush(this.elements)
    this.touched.length = 0
    this.elements.push({
      _tag: "Message",
      sequence: transactional
        ? this.sequence(this.changes * 2)
        : Sequence.make(bigintOf(uint32At(bytes, at + 1), uint32At(bytes, at + 5)), 0n),
      prefix,
      content: content.slice()
    })
  }
}

/** Checks that a message which nothing is made of ends as it should, with so many strings from `at` on. */
const passOver = (bytes: Uint8Array, at: number, limit: number, strings: number, what: string): void => {
  let end = at
  for (let left = strings; left > 0 && end < limit; left--) end = Relation.stringEnd(bytes, end, limit, "name") + 1
  if (end !== limit || at >= limit) malformedMessage(`${what} of the wrong length`)
}

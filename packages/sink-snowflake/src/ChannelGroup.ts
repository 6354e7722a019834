/**
 * The channels of one table: one, or several that its changes are spread over by their keys.
 *
 * Each channel knows what of it is committed; what is durable of the table is the lowest of them, where a channel with nothing in flight holds
 * everything that was written. After a run ended, each channel leaves out the rows up to its own offset, so that the journal gets every change exactly once.
 *
 * Another number of channels is another set (see `ChannelTable`). The old set takes what is missing up to the highest of its offsets, in the old way; then it holds
 * everything up to there, and the new set goes on after that.
 */
import * as BatchSlice from "@etl-stream/core/BatchSlice"
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { sequenceAt } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { Channel } from "./Channel.ts"
import type { ChannelSet, ChannelTable } from "./ChannelTable.ts"
import { single } from "./ChannelTable.ts"
import { ChannelWriter } from "./ChannelWriter.ts"
import type * as Writers from "./ChannelWriter.ts"
import type { CommitWatcher } from "./CommitWatcher.ts"
import type { OutOfRange } from "./Config.ts"
import * as ForgottenChannels from "./ForgottenChannels.ts"
import * as LargeRow from "./LargeRow.ts"
import { NdjsonEncoder } from "./NdjsonEncoder.ts"
import * as RowRouter from "./RowRouter.ts"
import * as SkippedRows from "./SkippedRows.ts"
import type { SqlClient } from "./SqlClient.ts"
import * as Sql from "./SqlClient.ts"
import type { Stage } from "./Stage.ts"
import type { StreamingClient } from "./StreamingClient.ts"
import type { TableLayout } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError
type Text = Sequence.SequenceText

/** What the channels of all tables share. */
export interface Shared extends Writers.Shared {
  readonly sql: SqlClient
  readonly stage: Stage
  readonly streaming: StreamingClient
  readonly watcher: CommitWatcher
  readonly channelTable: ChannelTable
  /** What each table has, as far as is known. */
  readonly sets: Map<TableId, ChannelSet>
  /** Names this run among the owners of channels. */
  readonly run: string
}

export interface Options {
  /** How many channels the table is to have. */
  readonly channels: number
  /** Whether the journal was created just now: it holds nothing. */
  readonly fresh: boolean
  /** Whatever the channels hold is void, and so is the state that they are in: Snowflake is to forget them. */
  readonly void: boolean
  readonly outOfRange: OutOfRange
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  /** Takes an error that is seen while the channels are watched. */
  readonly failed: (error: Failed) => Effect.Effect<void>
}

interface Member {
  readonly channel: Channel
  writer: ChannelWriter
  /** Up to here the channel holds all its rows. */
  covered: Text | undefined
  /** The last row that it was given. */
  given: Text | undefined
}

/** Channels that are opened at a time. */
const concurrently = 4

const later = (a: Text | undefined, b: Text | undefined): Text | undefined =>
  a === undefined ? b : b === undefined || a >= b ? a : b

const inFlight = ({ channel, covered, given }: Member): boolean => {
  const held = later(channel.committed, covered)
  return given !== undefined && (held === undefined || given > held)
}

export class ChannelGroup {
  private layout: TableLayout
  private readonly shared: Shared
  private readonly options: Options
  private set: ChannelSet
  private members: ReadonlyArray<Member> = []
  /** Everything up to here was given to the channels. */
  private written: Text | undefined
  /** Everything up to here is committed, and was reported. */
  private reported: Text | undefined
  /** Where another set of channels takes over; undefined when none is to. */
  private handover: { readonly after: Text | undefined } | undefined
  /** Changes in the journal that were a forgotten channel's, or may have been. */
  private forgotten: ReadonlySet<Text> = new Set()
  private forgottenUpTo: Text = ""
  private readonly reporting = Semaphore.makeUnsafe(1)

  constructor(layout: TableLayout, shared: Shared, options: Options) {
    this.layout = layout
    this.shared = shared
    this.options = options
    this.set = shared.sets.get(layout.id) ?? single
  }

  /** Everything up to here is committed. */
  get committed(): Text | undefined {
    return this.reported
  }

  /** The error for rows that Snowflake skipped since the channels were created; undefined when there are none. */
  get skipped(): Effect.Effect<Failed | undefined> {
    return Effect.gen({ self: this }, function*() {
      const affected = this.members.map(({ channel }) => channel).filter(({ skipped }) => skipped > 0)
      if (affected.length === 0) return undefined
      const why = yield* Effect.forEach(affected, ({ reasons }) => reasons)
      const last = affected.reduce((upTo: Text | undefined, { lastSkipped }) => later(upTo, lastSkipped), undefined)
      return SkippedRows.error(this.layout, affected.reduce((sum, { skipped }) => sum + skipped, 0), last, why.flat())
    })
  }

  private member(name: string): Member {
    const { options, shared } = this
    const channel = new Channel(
      this.layout,
      name,
      shared.streaming,
      shared.watcher.activity,
      Effect.suspend(() => this.report),
      Effect.suspend(() => SkippedRows.reasons(Sql.serving(shared.sql, "state"), this.layout, name))
    )
    const writer = new ChannelWriter(channel, new NdjsonEncoder(this.layout, options.outOfRange), shared)
    return { channel, writer, covered: undefined, given: undefined }
  }

  private makeMembers({ channels, epoch }: ChannelSet): ReadonlyArray<Member> {
    const base = this.layout.channel
    return epoch === 0
      ? [this.member(base)]
      : Array.from({ length: channels }, (_, index) => this.member(`${base}_${epoch}_${index}`))
  }

  private keep(set: ChannelSet): void {
    this.set = set
    this.shared.sets.set(this.layout.id, set)
  }

  /** Opens the channels, which fences an older writer; returns up to where the journal holds everything, as far as they tell. */
  open(): Effect.Effect<Text | undefined, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { channelTable, run } = this.shared
      const wanted = this.options.channels
      if (this.set.epoch > 0 || this.set.channels !== wanted) {
        this.keep(yield* channelTable.claim(this.layout, this.set, run))
      }
      this.members = this.makeMembers(this.set)
      if (this.options.void) {
        // One that was never there, or can't be dropped, shows when it is opened.
        yield* Effect.forEach(this.members, ({ channel }) => Effect.ignore(channel.drop), {
          concurrency: concurrently,
          discard: true
        })
      }
      yield* this.openMembers(this.options.fresh || this.options.void)
      yield* channelTable.expect(this.layout, this.set)
      const held = this.members.map(({ covered }) => covered)
      if (this.set.channels !== wanted) {
        const highest = held.reduce(later, undefined)
        this.handover = { after: highest }
        // One channel, or several that are equally far, have no rows to make up for. A count of skipped rows has to be seen to first: it goes with its channel.
        if (held.every((text) => text === highest) && (yield* this.skipped) === undefined) {
          yield* this.handOver(wanted, highest)
        }
      }
      this.watch()
      return this.lowest
    })
  }

  private get lowest(): Text | undefined {
    const held = this.members.map(({ covered }) => covered)
    return held.reduce(
      (low, text) => low === undefined || text === undefined ? undefined : text < low ? text : low,
      held[0]
    )
  }

  /** Everything up to `sequence` is known to be held, by the channels or by other means; nothing was given to the channels yet. */
  start(sequence: Text | undefined): void {
    this.written = sequence
    this.reported = sequence
  }

  private openMembers(fresh: boolean): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      yield* Effect.forEach(this.members, ({ channel }) => channel.open(), { concurrency: concurrently, discard: true })
      const { held } = this.set
      const [only] = this.members
      if (!fresh && this.members.some(({ channel }) => channel.committed === undefined)) {
        // Snowflake forgets channels after 30 idle days; then the journal itself says how far they were.
        const { sql } = this.shared
        if (this.members.length > 1) {
          this.forgotten = yield* ForgottenChannels.changesAfter(sql, this.layout, held)
          for (const text of this.forgotten) if (text > this.forgottenUpTo) this.forgottenUpTo = text
        } else if (only !== undefined) {
          const last = yield* ForgottenChannels.lastChange(sql, this.layout)
          if (last !== undefined) yield* only.channel.open(last)
        }
      }
      for (const member of this.members) member.covered = later(member.channel.committed, held)
    })
  }

  private watch(): void {
    for (const { channel } of this.members) this.shared.watcher.add(channel, this.options.failed)
  }

  /** Watches the channels no more. */
  close(): void {
    for (const { channel } of this.members) this.shared.watcher.remove(channel)
  }

  /** Lets another set of channels go on after `held`, up to which the journal holds everything. */
  private handOver(channels: number, held: Text | undefined): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { channelTable } = this.shared
      const next: ChannelSet = { ...this.set, epoch: this.set.epoch + 1, channels, held }
      yield* channelTable.replace(this.layout, this.set, next)
      this.close()
      const old = this.members
      this.keep(next)
      this.handover = undefined
      this.forgotten = new Set()
      this.members = this.makeMembers(next)
      yield* this.openMembers(true)
      yield* channelTable.expect(this.layout, next)
      this.watch()
      // What is left of the old set is of no use, and does no harm.
      yield* Effect.forEach(old, ({ channel }) => Effect.ignore(channel.drop), {
        concurrency: concurrently,
        discard: true
      })
    })
  }

  /** Gives the rows of a batch to the channels. */
  write(batch: ChangeBatch.ChangeBatch): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { handover } = this
      if (handover === undefined) return yield* this.writePart(batch, 0, batch.rows)
      const after = handover.after === undefined ? undefined : Sequence.parse(handover.after)
      const cut = after === undefined ? 0 : BatchSlice.rowsUpTo(batch, after)
      if (cut > 0) yield* this.writePart(batch, 0, cut)
      if (cut === batch.rows) return
      yield* this.settled
      yield* this.handOver(this.options.channels, handover.after)
      yield* this.writePart(batch, cut, batch.rows)
    })
  }

  private writePart(batch: ChangeBatch.ChangeBatch, from: number, to: number): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const before = this.written
      this.written = Sequence.format(sequenceAt(batch.records, to - 1))
      const [only] = this.members
      if (this.members.length === 1 && only !== undefined && from === 0 && to === batch.rows) {
        const first = Sequence.format(batch.first)
        // The engine leaves out what is committed, so this is only ever so after a set of several channels.
        if (only.covered === undefined || first > only.covered) {
          this.give(only, before, this.written)
          return yield* this.writeTo(only, batch)
        }
      }
      const routes = this.routes(batch, from, to)
      const last = new Int32Array(this.members.length).fill(-1)
      for (let row = from; row < to; row++) {
        const route = routes[row] as number // in range
        if (route !== RowRouter.nowhere) last[route] = row
      }
      const given = this.members.flatMap((member, index) => {
        const row = last[index] ?? -1
        if (row < 0) return []
        this.give(member, before, Sequence.format(sequenceAt(batch.records, row)))
        return [{ member, selection: { routes, channel: index } }]
      })
      yield* Effect.forEach(given, ({ member, selection }) => this.writeTo(member, batch, selection), {
        concurrency: "unbounded",
        discard: true
      })
      yield* this.report
    })
  }

  /** The channel of each row from `from` to `to` that its channel doesn't hold. */
  private routes(batch: ChangeBatch.ChangeBatch, from: number, to: number): Uint8Array {
    const routes = RowRouter.route(this.layout, batch, this.members.length)
    routes.fill(RowRouter.nowhere, 0, from)
    routes.fill(RowRouter.nowhere, to)
    for (const [index, member] of this.members.entries()) {
      const held = later(member.channel.committed, member.covered)
      const sequence = held === undefined ? undefined : Sequence.parse(held)
      const cut = sequence === undefined ? from : Math.min(to, BatchSlice.rowsUpTo(batch, sequence))
      for (let row = from; row < cut; row++) if (routes[row] === index) routes[row] = RowRouter.nowhere
    }
    if (Sequence.format(sequenceAt(batch.records, from)) > this.forgottenUpTo) this.forgotten = new Set()
    if (this.forgotten.size > 0) {
      for (let row = from; row < to; row++) {
        if (this.forgotten.has(Sequence.format(sequenceAt(batch.records, row)))) routes[row] = RowRouter.nowhere
      }
    }
    return routes
  }

  /** The channel has rows to write, the last of them `given`; all before `before` that were its own are committed unless it was in flight. */
  private give(member: Member, before: Text | undefined, given: Text): void {
    if (!inFlight(member)) member.covered = later(member.covered, before)
    member.given = given
  }

  private writeTo(
    member: Member,
    batch: ChangeBatch.ChangeBatch,
    selection?: { readonly routes: Uint8Array; readonly channel: number }
  ): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { letters, sql, stage } = this.shared
      let from = 0
      while (from < batch.rows) {
        const tooLarge = yield* member.writer.write(batch, from, selection)
        if (tooLarge === undefined) return
        yield* LargeRow.write(
          Sql.serving(sql, "copy"),
          stage,
          member.channel,
          batch,
          tooLarge.row,
          this.options.outOfRange,
          letters
        )
        yield* this.report
        from = tooLarge.row + 1
      }
    })
  }

  /** Appends the mark that all rows were removed, after everything before it is committed. */
  truncate(sequence: Sequence.Sequence, commitTime: bigint): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const text = Sequence.format(sequence)
      const { handover } = this
      if (this.members.length > 1 || handover !== undefined) yield* this.settled
      if (handover !== undefined && (handover.after === undefined || text > handover.after)) {
        yield* this.handOver(this.options.channels, handover.after)
      }
      const [first] = this.members
      if (first === undefined) return
      const before = this.written
      this.written = text
      const held = later(first.channel.committed, first.covered)
      if ((held === undefined || text > held) && !this.forgotten.has(text)) {
        this.give(first, before, text)
        yield* first.writer.truncate(sequence, commitTime)
      }
      yield* this.report
    })
  }

  /** Reports what is newly durable. */
  private get report(): Effect.Effect<void> {
    return this.reporting.withPermits(1)(Effect.suspend(() => {
      let low = this.written
      for (const member of this.members) {
        if (!inFlight(member)) continue
        const held = later(member.channel.committed, member.covered)
        if (held === undefined) return Effect.void
        if (low === undefined || held < low) low = held
      }
      const sequence = low === undefined ? undefined : Sequence.parse(low)
      if (sequence === undefined || low === undefined || (this.reported !== undefined && low <= this.reported)) {
        return Effect.void
      }
      this.reported = low
      return this.options.durable(sequence)
    }))
  }

  /** Waits until everything accepted is committed. */
  get settled(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(this.members, ({ channel }) => channel.settled, { concurrency: "unbounded", discard: true })
    )
  }

  /** Opens the channels again, which must be where this run left them with nothing in flight. */
  get reopen(): Effect.Effect<void, Failed> {
    return Effect.suspend(() =>
      Effect.forEach(this.members, ({ channel }) => channel.reopen, { concurrency: concurrently, discard: true })
    )
  }

  /** Opens the channels again after the table's shape, which their pipe depends on, has changed. Nothing is in flight. */
  reshape(layout: TableLayout): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      this.layout = layout
      yield* Effect.forEach(this.members, ({ channel }) => channel.reshape(layout), {
        concurrency: concurrently,
        discard: true
      })
      for (const member of this.members) {
        member.writer = new ChannelWriter(
          member.channel,
          new NdjsonEncoder(layout, this.options.outOfRange),
          this.shared
        )
      }
    })
  }

  /** Begins anew with the offset `from`, which may be lower than what was written; counts of skipped rows are forgotten. Nothing is in flight. */
  restart(from: Text): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const [only] = this.members
      if (this.set.owner === this.shared.run) {
        yield* this.reopen
        yield* this.handOver(this.options.channels, from)
      } else if (only !== undefined) {
        yield* only.channel.restart(from)
        only.covered = from
        only.given = undefined
      }
      this.forgotten = new Set()
      this.start(from)
    })
  }
}

/**
 * The channels of one table: one, or several that its changes are spread over by their keys.
 *
 * Each channel knows what of it is committed; what is durable of the table follows from all of them and from what the engine has given (see `ChannelOffsets`, which
 * says what may be believed when). After a run ended, each channel leaves out the rows up to its own offset, so that the journal gets every change exactly once.
 *
 * Another number of channels is another set (see `ChannelTable`). The old set takes what is missing up to the last row that it has in the journal, in the old way; then it holds
 * everything up to there, and the new set goes on after that. Channels of a new set are opened with that as their offset: one without an offset was forgotten.
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
import { ChannelOffsets, later } from "./ChannelOffsets.ts"
import type { Committed } from "./ChannelOffsets.ts"
import type { ChannelSet, ChannelTable } from "./ChannelTable.ts"
import { single } from "./ChannelTable.ts"
import { ChannelWriter } from "./ChannelWriter.ts"
import type * as Writers from "./ChannelWriter.ts"
import type { CommitWatcher } from "./CommitWatcher.ts"
import type { OutOfRange } from "./Config.ts"
import * as ForgottenChannels from "./ForgottenChannels.ts"
import * as LargeRow from "./LargeRow.ts"
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
  /** Up to where the engine has given everything, or never will; undefined when that isn't known. */
  readonly given: () => Sequence.Sequence | undefined
  /** Takes an error that is seen while the channels are watched. */
  readonly failed: (error: Failed) => Effect.Effect<void>
}

interface Member {
  readonly channel: Channel
  writer: ChannelWriter
}

/** Channels that are opened at a time. */
const concurrently = 4

export class ChannelGroup {
  private layout: TableLayout
  private readonly shared: Shared
  private readonly options: Options
  private set: ChannelSet
  private members: ReadonlyArray<Member> = []
  private readonly offsets = new ChannelOffsets()
  /** Where another set of channels takes over; undefined when none is to. */
  private handover: { readonly after: Text | undefined } | undefined
  private forgotten = new ForgottenChannels.ForgottenChanges()
  private readonly reporting = Semaphore.makeUnsafe(1)

  constructor(layout: TableLayout, shared: Shared, options: Options) {
    this.layout = layout
    this.shared = shared
    this.options = options
    this.set = shared.sets.get(layout.id) ?? single
  }

  /** What is committed. */
  get committed(): Committed | undefined {
    const given = this.offsets.incomplete ? this.options.given() : undefined
    if (given !== undefined) this.offsets.complete(Sequence.format(given))
    return this.offsets.committed
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
    const writer = new ChannelWriter(channel, options.outOfRange, shared)
    return { channel, writer }
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

  /**
   * Opens the channels, which fences an older writer; returns up to where the journal holds everything, as far as they tell. What is up to `floor` is held or
   * void whatever they tell.
   */
  open(floor: Text | undefined): Effect.Effect<Text | undefined, Failed> {
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
      yield* this.openMembers(this.options.fresh || this.options.void, later(this.set.held, floor))
      yield* channelTable.expect(this.layout, this.set)
      if (this.set.channels !== wanted) {
        const { last, level } = this.offsets
        this.handover = { after: last }
        // One channel, or several that are equally far, have no rows to make up for. A count of skipped rows has to be seen to first: it goes with its channel.
        if (level && (yield* this.skipped) === undefined) yield* this.handOver(wanted, last)
      }
      this.watch()
      return this.offsets.lowest
    })
  }

  /** Everything up to `sequence` is known to be held, by the channels or by other means; nothing was given to the channels yet. */
  start(sequence: Text | undefined): void {
    this.offsets.start(sequence)
  }

  /** Opens the channels, which hold everything up to `held`; `fresh` when the journal has nothing of theirs after that. */
  private openMembers(fresh: boolean, held: Text | undefined, offset?: Text): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      yield* Effect.forEach(this.members, ({ channel }) => channel.open(offset), {
        concurrency: concurrently,
        discard: true
      })
      let found: Text | undefined
      let from = held
      if (!fresh && this.members.some(({ channel }) => channel.committed === undefined)) {
        // Snowflake forgets channels after 30 idle days; then the journal itself says how far they were.
        const { sql } = this.shared
        if (this.members.length > 1) {
          this.forgotten = yield* ForgottenChannels.changesAfter(sql, this.layout, held)
          found = this.forgotten.last
        } else from = later(yield* ForgottenChannels.lastChange(sql, this.layout), held)
      }
      // From here on each has an offset, so that it is known again. Not while rows are told apart one by one: an offset would say that none of them is its own.
      if (from !== undefined && found === undefined) {
        const unset = this.members.filter(({ channel }) => channel.committed === undefined)
        yield* Effect.forEach(unset, ({ channel }) => channel.open(from), { concurrency: concurrently, discard: true })
      }
      this.offsets.begin(this.members.map(({ channel }) => channel), held, found)
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
      this.forgotten = new ForgottenChannels.ForgottenChanges()
      this.members = this.makeMembers(next)
      yield* this.openMembers(true, held, held)
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
      const { offsets } = this
      const upTo = Sequence.format(sequenceAt(batch.records, to - 1))
      const [only] = this.members
      if (this.members.length === 1 && only !== undefined && from === 0 && to === batch.rows) {
        const held = offsets.held(0)
        // The engine leaves out what is committed, so this is only ever not so after a set of several channels.
        if (held === undefined || Sequence.format(batch.first) > held) {
          offsets.give(upTo, [[0, upTo]])
          return yield* this.writeTo(only, batch)
        }
      }
      const routes = this.routes(batch, from, to)
      const last = new Int32Array(this.members.length).fill(-1)
      for (let row = from; row < to; row++) {
        const route = routes[row] as number // in range
        if (route !== RowRouter.nowhere) last[route] = row
      }
      const given = [...last.entries()].filter(([, row]) => row >= 0)
      offsets.give(upTo, given.map(([index, row]) => [index, Sequence.format(sequenceAt(batch.records, row))]))
      yield* Effect.forEach(
        given,
        ([index]) => {
          const member = this.members[index]
          return member === undefined ? Effect.void : this.writeTo(member, batch, { routes, channel: index })
        },
        { concurrency: "unbounded", discard: true }
      )
      yield* this.report
    })
  }

  /** The channel of each row from `from` to `to` that its channel doesn't hold. */
  private routes(batch: ChangeBatch.ChangeBatch, from: number, to: number): Uint8Array {
    const routes = RowRouter.route(this.layout, batch, this.members.length)
    routes.fill(RowRouter.nowhere, 0, from)
    routes.fill(RowRouter.nowhere, to)
    for (const index of this.members.keys()) {
      const held = this.offsets.held(index)
      const sequence = held === undefined ? undefined : Sequence.parse(held)
      const cut = sequence === undefined ? from : Math.min(to, BatchSlice.rowsUpTo(batch, sequence))
      for (let row = from; row < cut; row++) if (routes[row] === index) routes[row] = RowRouter.nowhere
    }
    if (!this.forgotten.passed(Sequence.format(sequenceAt(batch.records, from)))) {
      for (let row = from; row < to; row++) {
        if (this.forgotten.has(Sequence.format(sequenceAt(batch.records, row)))) routes[row] = RowRouter.nowhere
      }
    }
    return routes
  }

  private writeTo(
    member: Member,
    batch: ChangeBatch.ChangeBatch,
    selection?: { readonly routes: Uint8Array; readonly channel: number }
  ): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { encoding, letters, sql, stage } = this.shared
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
          letters,
          encoding
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
      const held = this.offsets.held(0)
      const isNew = (held === undefined || text > held) && !this.forgotten.has(text)
      this.offsets.give(text, isNew ? [[0, text]] : [])
      if (isNew) yield* first.writer.truncate(sequence, commitTime)
      yield* this.report
    })
  }

  /** Reports what is newly durable. */
  private get report(): Effect.Effect<void> {
    return this.reporting.withPermits(1)(Effect.suspend(() => {
      const upTo = this.offsets.report()
      const sequence = upTo === undefined ? undefined : Sequence.parse(upTo)
      return sequence === undefined ? Effect.void : this.options.durable(sequence)
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
        member.writer = new ChannelWriter(member.channel, this.options.outOfRange, this.shared)
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
      } else if (only !== undefined) yield* only.channel.restart(from)
      this.forgotten = new ForgottenChannels.ForgottenChanges()
      this.offsets.restart(from)
    })
  }
}

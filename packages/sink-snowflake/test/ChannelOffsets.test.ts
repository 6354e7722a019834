/**
 * The arithmetic of several channels, against a model: random rows and commits, runs that end anywhere, and what the contract of sinks says comes again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Sequence from "@etl-stream/core/Sequence"
import * as fc from "fast-check"
import { ChannelOffsets, later } from "../src/ChannelOffsets.ts"

type Text = Sequence.SequenceText

/** Row -1 stands for the copy that the table began with. */
const text = (row: number): Text => Sequence.format(Sequence.make(BigInt(row + 1), 0n))

/** What there is of a channel in Snowflake, and what is accepted of it. */
interface Channel {
  committed: Text | undefined
  /** Rows that were accepted and aren't committed. */
  readonly accepted: Array<number>
}

type Command =
  /** The engine gives the next rows. */
  | { readonly _tag: "Give"; readonly rows: number }
  /** A channel commits some of what it accepted. */
  | { readonly _tag: "Commit"; readonly channel: number; readonly rows: number }
  /** The source says that everything so far was emitted. */
  | { readonly _tag: "Watermark" }
  | { readonly _tag: "Merge" }
  /**
   * The run ends and another begins: Snowflake loses what it had accepted (or commits it), forgets a channel, has another number of channels; the source goes on up to so many rows
   * before what was acknowledged.
   */
  | {
    readonly _tag: "Crash"
    readonly loses: boolean
    readonly forgets: number
    readonly channels: number
    readonly back: number
  }

const commands: fc.Arbitrary<ReadonlyArray<Command>> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ _tag: fc.constant("Give" as const), rows: fc.integer({ min: 1, max: 8 }) }) },
    {
      weight: 5,
      arbitrary: fc.record({
        _tag: fc.constant("Commit" as const),
        channel: fc.nat(4),
        rows: fc.integer({ min: 1, max: 6 })
      })
    },
    { weight: 3, arbitrary: fc.constant({ _tag: "Watermark" as const }) },
    { weight: 2, arbitrary: fc.constant({ _tag: "Merge" as const }) },
    {
      weight: 2,
      arbitrary: fc.record({
        _tag: fc.constant("Crash" as const),
        loses: fc.boolean(),
        forgets: fc.nat(9),
        channels: fc.constantFrom(1, 2, 3, 3, 3, 5),
        back: fc.nat(5)
      })
    }
  ),
  { maxLength: 60, size: "max" }
)

/** Which of a row's keys; channels follow from it. */
const routeOf = (row: number, channels: number): number => ((row * 2654435761) >>> 7) % channels

/** A table's rows, Snowflake, and an engine that does what its contract says. */
class Model {
  private readonly rows: number
  private channels: Array<Channel> = [{ committed: text(-1), accepted: [] }]
  private offsets = new ChannelOffsets()
  /** The sequence up to which the set of channels held everything when it was begun. */
  private held: Text | undefined
  readonly journal = new Set<number>()
  private merged = -1
  /** What the source was told to be durable: rows before this never have to come again. */
  private acknowledged = 0
  /** Rows before this were given in this run, or aren't given in it. */
  private next = 0
  /** Where the last watermark of this run was. */
  private watermark: number | undefined
  private durable = -1
  private position = -1
  private handover: { readonly after: Text | undefined; readonly channels: number } | undefined
  private forgotten: ReadonlySet<number> = new Set()

  constructor(rows: number) {
    this.rows = rows
    this.open(1)
  }

  private get floor(): Text {
    return text(this.merged)
  }

  /** As `ChannelGroup` opens them. */
  private open(wanted: number): void {
    this.offsets = new ChannelOffsets()
    this.handover = undefined
    const held = later(this.held, this.floor)
    this.forgotten = new Set()
    let found: Text | undefined
    const unset = this.channels.filter(({ committed }) => committed === undefined)
    if (unset.length > 0) {
      const rows = [...this.journal].filter((row) => held === undefined || text(row) > held)
      const last = rows.length === 0 ? undefined : text(Math.max(...rows))
      if (this.channels.length > 1) {
        this.forgotten = new Set(rows)
        found = last
      }
      const from = this.channels.length > 1 ? held : later(last, held)
      if (from !== undefined && found === undefined) { for (const channel of unset) channel.committed = from }
    }
    this.offsets.begin(this.channels, held, found)
    if (wanted !== this.channels.length) {
      this.handover = { after: this.offsets.last, channels: wanted }
      if (this.offsets.level) this.handOver()
    }
    const position = later(this.offsets.lowest, this.floor)
    this.offsets.start(position)
    this.position = position === undefined ? -1 : this.rowOf(position)
    this.durable = -1
  }

  private rowOf(sequence: Text): number {
    return Number(Sequence.parse(sequence)?.commit) - 1
  }

  private handOver(): void {
    const { handover } = this
    if (handover === undefined) return
    this.held = handover.after
    this.channels = Array.from({ length: handover.channels }, () => ({ committed: handover.after, accepted: [] }))
    this.handover = undefined
    this.forgotten = new Set()
    this.offsets.begin(this.channels, this.held)
  }

  private commit(channel: Channel, rows: number): void {
    for (const row of channel.accepted.splice(0, rows)) {
      assert.isFalse(this.journal.has(row), `the row ${row} is in the journal once`)
      this.journal.add(row)
      channel.committed = text(row)
    }
    this.report()
  }

  private report(): void {
    const sequence = this.offsets.report()
    if (sequence === undefined) return
    this.durable = this.rowOf(sequence)
    this.believe(this.durable, "durable")
  }

  private believe(upTo: number, what: string): void {
    for (let row = 0; row <= upTo; row++) {
      assert.isTrue(this.journal.has(row), `${what} up to ${upTo} without the row ${row}`)
    }
  }

  private write(from: number, to: number): void {
    if (from >= to) return
    const last = new Map<number, number>()
    for (let row = from; row < to; row++) {
      const index = routeOf(row, this.channels.length)
      const held = this.offsets.held(index)
      if ((held !== undefined && text(row) <= held) || this.forgotten.has(row)) continue
      this.channels[index]?.accepted.push(row)
      last.set(index, row)
    }
    this.offsets.give(text(to - 1), [...last].map(([index, row]) => [index, text(row)]))
    this.report()
  }

  run(command: Command): void {
    switch (command._tag) {
      case "Give": {
        const to = Math.min(this.rows, this.next + command.rows)
        // The engine leaves out what the sink holds.
        const from = Math.min(to, Math.max(this.next, this.position + 1))
        this.next = to
        const { handover } = this
        if (handover === undefined) return this.write(from, to)
        const cut = handover.after === undefined ? from : Math.min(to, Math.max(from, this.rowOf(handover.after) + 1))
        this.write(from, cut)
        if (cut === to) return
        for (const channel of this.channels) this.commit(channel, Number.POSITIVE_INFINITY)
        this.handOver()
        return this.write(cut, to)
      }
      case "Commit": {
        const channel = this.channels[command.channel % this.channels.length]
        return channel === undefined ? undefined : this.commit(channel, command.rows)
      }
      case "Watermark":
        this.watermark = this.next
        this.acknowledge()
        return
      case "Merge":
        return this.merge()
      case "Crash": {
        for (const channel of this.channels) {
          if (!command.loses) this.commit(channel, Number.POSITIVE_INFINITY)
          channel.accepted.length = 0
        }
        this.acknowledge()
        const forgotten = this.channels[command.forgets]
        if (forgotten !== undefined) forgotten.committed = undefined
        this.open(command.channels)
        this.next = Math.max(0, this.acknowledged - command.back)
        this.watermark = undefined
        return
      }
    }
  }

  /** As the engine acknowledges: the last watermark before which everything is durable. */
  private acknowledge(): void {
    const { watermark } = this
    if (watermark === undefined) return
    if (watermark - 1 <= Math.max(this.durable, this.position, this.acknowledged - 1)) {
      this.acknowledged = Math.max(this.acknowledged, watermark)
    }
  }

  merge(): void {
    if (this.watermark !== undefined && this.watermark > 0 && this.offsets.incomplete) {
      this.offsets.complete(text(this.watermark - 1))
    }
    const { committed } = this.offsets
    if (committed === undefined) return
    const upTo = this.rowOf(committed.upTo)
    this.believe(upTo, "merged")
    for (const row of committed.rows) {
      const shown = row <= this.floor || this.journal.has(this.rowOf(row))
      assert.isTrue(shown, "what has to show before a merge is in the journal")
    }
    this.merged = Math.max(this.merged, upTo)
  }

  /** Nothing changes any more: what has to come again does, everything is committed and acknowledged, and a run that gets nothing at all merges what is left. */
  settle(): number {
    for (let rounds = 0; rounds < 3; rounds++) {
      this.run({ _tag: "Watermark" })
      for (const channel of this.channels) this.commit(channel, Number.POSITIVE_INFINITY)
      this.run({ _tag: "Give", rows: Math.max(0, this.known - this.next) })
    }
    this.run({ _tag: "Watermark" })
    this.run({ _tag: "Crash", loses: true, forgets: -1, channels: this.channels.length, back: 0 })
    assert.strictEqual(this.next, this.known, "nothing comes again")
    this.run({ _tag: "Watermark" })
    this.merge()
    return this.merged
  }

  /** Rows that were ever given. */
  private most = 0
  get known(): number {
    this.most = Math.max(this.most, this.next, this.acknowledged)
    return this.most
  }
}

describe("ChannelOffsets", () => {
  it("never pass a row that isn't in the journal, and pass all of them once all are, however runs end", () => {
    fc.assert(
      fc.property(commands, (list) => {
        const model = new Model(200)
        for (const command of list) {
          model.run(command)
          void model.known
        }
        assert.strictEqual(model.settle(), model.known - 1)
      }),
      { numRuns: 3000 }
    )
  })
})

/**
 * How far the channels of a table are, each and all together: arithmetic alone.
 *
 * Each channel's offset says that its own rows up to there are in the journal, and nothing of the others'. What the table as a whole holds follows from what the engine gives:
 *
 * 1. It gives the table's changes in order, so when it has given one, it has given every one before it, or left it out because it is held: the journal has it, or it is
 *    void because a copy that came later covers it.
 * 2. A change that was given and isn't left out is on its way in exactly one channel. Until it is committed there, that channel is in flight, and everything
 *    committed ends at the last offset of the channels in flight before which they hold all that was theirs. A channel that isn't in flight holds whatever was given.
 * 3. After a start nothing is given yet, so what the table holds is only what every channel says: the lowest offset. A channel that is ahead may have rows beyond it that
 *    are durable, and that the engine never gives again; and those of the channel that lags may be missing before them, which it will give again. Offsets can't tell
 *    the one from the other, and the journal can't either.
 * 4. The engine can: once it says that the table is complete up to somewhere (`complete`), whatever is missing before was given. So when that is at or past the highest
 *    offset, the channels are where they would be had all of it been written in this run. Before, nothing is believed. When it isn't, the highest offset's row
 *    was never confirmed to the source, so it comes again, and 1 holds for it.
 *
 * A set of channels that takes another's place begins where everything up to there is in the journal. Offsets that no row of the journal has are those that a
 * copy began with, and what is merged is never before them.
 */
import type { SequenceText } from "@etl-stream/core/Sequence"

type Text = SequenceText

/** What is committed of a table. */
export interface Committed {
  /** Everything up to here is; the last of it. */
  readonly upTo: Text
  /** The last row of each channel, before or after `upTo`: when these show, everything shows. */
  readonly rows: ReadonlyArray<Text>
}

interface Committing {
  /** Up to here the channel's rows are in the journal, as it says itself. */
  readonly committed: Text | undefined
}

interface Offset {
  readonly channel: Committing
  /** Up to here the channel holds all its rows. */
  covered: Text | undefined
  /** The last row that it was given. */
  given: Text | undefined
}

/** The later of two sequences, whose texts are ordered as they are. */
export const later = (a: Text | undefined, b: Text | undefined): Text | undefined =>
  a === undefined ? b : b === undefined || a >= b ? a : b

const heldBy = ({ channel, covered }: Offset): Text | undefined => later(channel.committed, covered)

const inFlight = (offset: Offset): boolean => {
  const held = heldBy(offset)
  return offset.given !== undefined && (held === undefined || offset.given > held)
}

export class ChannelOffsets {
  private offsets: ReadonlyArray<Offset> = []
  /** Everything up to here was given to the channels. */
  private written: Text | undefined
  /** Everything up to here is committed, and was reported. */
  private reported: Text | undefined
  /** The last row that is in the journal, as far as the channels tell, while rows before it may be missing. */
  private ahead: Text | undefined
  /** Last rows of channels whose place others took. */
  private earlier: ReadonlyArray<Text> = []

  /** The channels were opened. All of them hold everything up to `held`; the journal was found to have rows up to `found`. */
  begin(channels: ReadonlyArray<Committing>, held: Text | undefined, found?: Text): void {
    this.earlier = this.tokens
    this.offsets = channels.map((channel) => ({ channel, covered: later(channel.committed, held), given: undefined }))
    this.ahead = later(this.highest, found)
  }

  /** Everything up to `sequence` is known to be held, by the channels or by other means; nothing was given to the channels yet. Undefined: nothing of the table counts. */
  start(sequence: Text | undefined): void {
    this.written = sequence
    this.reported = sequence
    if (sequence === undefined) this.ahead = undefined
    this.passed(sequence)
  }

  /** Begins anew after `from`, which may be lower than what was written. What was before is void. */
  restart(from: Text): void {
    for (const offset of this.offsets) {
      offset.covered = from
      offset.given = undefined
    }
    this.earlier = []
    this.ahead = undefined
    this.start(from)
  }

  private passed(sequence: Text | undefined): void {
    if (this.ahead !== undefined && sequence !== undefined && sequence >= this.ahead) this.ahead = undefined
  }

  private get highest(): Text | undefined {
    return this.offsets.reduce((high: Text | undefined, { covered }) => later(high, covered), undefined)
  }

  /** Right after `begin`: up to here every channel holds its rows. */
  get lowest(): Text | undefined {
    const held = this.offsets.map(({ covered }) => covered)
    return held.reduce(
      (low, text) => low === undefined || text === undefined ? undefined : text < low ? text : low,
      held[0]
    )
  }

  /** Right after `begin`: the last row in the journal, as far as the channels tell. */
  get last(): Text | undefined {
    return this.ahead
  }

  /** Right after `begin`: whether every channel holds its rows up to `last`. */
  get level(): boolean {
    return this.offsets.every(({ covered }) => covered === this.ahead)
  }

  /** Up to here the channel holds its rows: they aren't to be written again. */
  held(index: number): Text | undefined {
    const offset = this.offsets[index]
    return offset === undefined ? undefined : heldBy(offset)
  }

  /** The engine gives everything up to `upTo`; of it channels are given their `rows`, the last of each by its channel's number. */
  give(upTo: Text, rows: ReadonlyArray<readonly [index: number, last: Text]>): void {
    const before = this.written
    this.written = upTo
    this.passed(upTo)
    for (const [index, last] of rows) {
      const offset = this.offsets[index]
      if (offset === undefined) continue
      // Not in flight, it holds whatever was given before.
      if (!inFlight(offset)) offset.covered = later(offset.covered, before)
      offset.given = last
    }
  }

  /** The engine has given everything up to `sequence`, or never will. Only right while none of it is yet to be told by `give`. */
  complete(sequence: Text): void {
    if (this.ahead === undefined || sequence < this.ahead) return
    this.written = later(this.written, this.ahead)
    this.ahead = undefined
  }

  /** Whether `complete` may tell anything new. */
  get incomplete(): boolean {
    return this.ahead !== undefined
  }

  private get low(): Text | undefined {
    let low = this.written
    for (const offset of this.offsets) {
      if (!inFlight(offset)) continue
      const held = heldBy(offset)
      if (held === undefined) return undefined
      if (low === undefined || held < low) low = held
    }
    return low
  }

  /** Up to where everything is committed, when that is further than at the last call. */
  report(): Text | undefined {
    const { low } = this
    if (low === undefined || (this.reported !== undefined && low <= this.reported)) return undefined
    this.reported = low
    return low
  }

  private get tokens(): ReadonlyArray<Text> {
    const now = this.offsets.flatMap(({ channel }) => channel.committed ?? [])
    return [...new Set([...this.earlier, ...now])]
  }

  /** What is committed, whether or not it was reported. */
  get committed(): Committed | undefined {
    const upTo = later(this.reported, this.low)
    return upTo === undefined ? undefined : { upTo, rows: this.tokens }
  }
}

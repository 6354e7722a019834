/**
 * From where on a table's changes can be taken for what they are.
 *
 * Chunks of a copy may be read in snapshots later than the position from which changes are streamed. A change of key that leaves
 * values unsent (unchanged TOAST) means the values of the row's old key, which the copy may have missed: the row was in a chunk that was
 * read after the change, and left it for one that was read before. Until the table has settled such changes are therefore
 * completed with what the row holds now (`RowCompletion`).
 *
 * That may be later than the change. If the row is still the same, its later changes come, too, and set what they set. If it isn't, the
 * row's own end comes later in the stream, before the position at which it was read; a row that inherits from it until then
 * does so by a change of key that is completed as well, because reading a row puts off the settling to that position.
 */
import type * as Lsn from "./Lsn.ts"

export class Settling {
  private copying: boolean
  private position: Lsn.Lsn

  /** `copying`: the copy isn't complete; otherwise changes that commit below `position` have to be complete. */
  constructor(copying: boolean, position: Lsn.Lsn) {
    this.copying = copying
    this.position = position
  }

  /** Whether the table is being copied. */
  get isCopying(): boolean {
    return this.copying
  }

  /** Whether a change of a transaction that commits at `commit` must have all its values. */
  covers(commit: Lsn.Lsn): boolean {
    return this.copying || commit < this.position
  }

  /** A row was read when the log ended at `position`. */
  read(position: Lsn.Lsn): void {
    if (position > this.position) this.position = position
  }

  /** A copy begins (again). */
  begin(): void {
    this.copying = true
  }

  /** The copy is complete, its chunks read in snapshots up to `latest`; returns where the table has settled. */
  end(latest: Lsn.Lsn): Lsn.Lsn {
    this.copying = false
    this.read(latest)
    return this.position
  }
}

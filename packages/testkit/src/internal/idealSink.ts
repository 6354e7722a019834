/**
 * An ideal sink that is as far behind as a case wants: what it accepted becomes durable when it is told to, table by table.
 */
import { type Element, tableOf } from "@etl-stream/core/Element"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import { ElementMirror } from "../ElementMirror.ts"

interface Accepted {
  readonly element: Element
  done: boolean
}

export class IdealSink {
  /** What is durable. */
  readonly mirror = new ElementMirror()
  /** What was accepted and may still get lost. */
  private pending: Array<Accepted> = []
  /** Everything becomes durable at once, or when `commit` says so. */
  prompt = true
  /** Up to where everything is durable, in this run. */
  acknowledged = 0n

  take(element: Element): void {
    this.pending.push({ element, done: false })
    if (this.prompt) this.commit()
  }

  /** Makes the first of what was accepted durable: `share` says how many elements of a table. */
  commit(share: (table: TableId, pending: number) => number = (_table, pending) => pending): void {
    const counts = new Map<TableId, number>()
    for (const { done, element } of this.pending) {
      const table = tableOf(element)
      if (table !== undefined && !done) counts.set(tableId(table), (counts.get(tableId(table)) ?? 0) + 1)
    }
    const left = new Map([...counts].map(([table, count]) => [table, share(table, count)]))
    for (const accepted of this.pending) {
      const name = tableOf(accepted.element)
      if (name === undefined || accepted.done) continue
      const rest = left.get(tableId(name)) ?? 0
      if (rest <= 0) continue
      left.set(tableId(name), rest - 1)
      accepted.done = true
      this.mirror.apply(accepted.element)
    }
    const until = this.pending.findIndex(({ done, element }) => !done && tableOf(element) !== undefined)
    for (const { element } of this.pending.splice(0, until < 0 ? this.pending.length : until)) {
      if (element._tag !== "Watermark") continue
      this.mirror.apply(element)
      if (element.position > this.acknowledged) this.acknowledged = element.position
    }
  }

  /** What isn't durable is gone. */
  crash(): void {
    this.pending = []
    this.acknowledged = 0n
  }
}

/**
 * A set of transaction ids, dense ones at a bit each.
 *
 * The sub-transactions of one transaction get their ids one after the other, with those of others between them: a loop that
 * catches an exception per row aborts millions of them. Pages of bits keep that at a fraction of a byte to a few hundred
 * bytes per id, however they lie.
 */

const pageBits = 10
const pageMask = (1 << pageBits) - 1

export class XidSet {
  size = 0
  private readonly pages = new Map<number, Uint32Array>()

  add(xid: number): void {
    const key = xid >>> pageBits
    let page = this.pages.get(key)
    if (page === undefined) {
      page = new Uint32Array(1 << (pageBits - 5))
      this.pages.set(key, page)
    }
    const at = (xid & pageMask) >>> 5
    const before = page[at] as number // a page has a word for every id
    const after = before | 1 << (xid & 31)
    page[at] = after
    if (page[at] !== before) this.size++
  }

  has(xid: number): boolean {
    const page = this.pages.get(xid >>> pageBits)
    return page !== undefined && ((page[(xid & pageMask) >>> 5] as number) & 1 << (xid & 31)) !== 0 // as above
  }
}

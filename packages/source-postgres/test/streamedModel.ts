/**
 * What has to come of streamed transactions, said as simply as possible: each one's messages in a list, filtered on an abort,
 * given out on its commit.
 */
import * as Messages from "./pgoutputMessages.ts"

export const text = (payload: Buffer): string => payload.toString("latin1")

export const insert = (value: string): Buffer => Messages.insert(16_400, [value])
export const relation = (oid: number, column: string): Buffer =>
  Messages.relation(oid, `t${oid}`, "d", [{ name: column, type: 25, key: true }])

/** Frames of a stream made by `choices`, and what has to come of it. */
export const model = (choices: ReadonlyArray<ReadonlyArray<number>>) => {
  interface Transaction {
    readonly xid: number
    readonly subs: Array<number>
    messages: Array<{ readonly xid: number; readonly payload: Buffer; readonly place: number }>
  }
  const frames: Array<Buffer> = []
  const expected: Array<string> = []
  const open: Array<Transaction> = []
  const known = new Map<number, { readonly place: number; readonly payload: Buffer }>()
  let xid = 100
  let lsn = 1000n
  let values = 0
  const send = (...payloads: ReadonlyArray<Buffer>): void => {
    for (const payload of payloads) frames.push(Messages.wal(payload))
  }
  const message = (choice: number): Buffer => {
    switch (choice % 7) {
      case 0:
        return relation(16_400 + choice % 2, choice % 3 === 0 ? "one" : "two")
      case 1:
        return Messages.update(16_400, [`u${values++}`])
      case 2:
        return Messages.remove(16_400, "K", [`d${values++}`])
      case 3:
        return Messages.message(true, 5n, "prefix", `m${values++}`)
      default:
        return insert(`${values++} `.repeat(1 + choice % 40))
    }
  }
  for (const [what = 0, which = 0, ...rest] of choices) {
    const transaction = open[which % Math.max(open.length, 1)]
    switch (what % 8) {
      case 0: {
        send(Messages.begin(lsn))
        expected.push(text(Messages.begin(lsn)))
        for (const choice of rest) {
          const payload = message(choice)
          if (payload[0] === 0x52) known.set(payload.readUInt32BE(1), { place: frames.length, payload })
          send(payload)
          expected.push(text(payload))
        }
        send(Messages.commit(lsn))
        expected.push(text(Messages.commit(lsn)))
        lsn += 100n
        break
      }
      case 1:
        frames.push(Messages.keepalive(lsn))
        expected.push("keepalive")
        break
      case 2:
        if (transaction === undefined) break
        open.splice(open.indexOf(transaction), 1)
        send(Messages.streamAbort(transaction.xid))
        break
      case 3: {
        const sub = transaction?.subs.splice(which % Math.max(transaction.subs.length, 1), 1)[0] ?? 99
        if (transaction === undefined) break
        send(Messages.streamAbort(transaction.xid, sub))
        transaction.messages = transaction.messages.filter((sent) => sent.xid !== sub)
        break
      }
      case 4: {
        if (transaction === undefined) break
        open.splice(open.indexOf(transaction), 1)
        send(Messages.streamCommit(transaction.xid, lsn))
        const last = new Map<number, { readonly place: number; readonly payload: Buffer }>()
        expected.push(text(Messages.begin(lsn, 0n, transaction.xid)))
        for (const { payload, place } of transaction.messages) {
          expected.push(text(payload))
          if (payload[0] === 0x52) last.set(payload.readUInt32BE(1), { place, payload })
        }
        expected.push(text(Messages.commit(lsn)))
        for (const [oid, announced] of last) {
          const other = known.get(oid)
          if (other === undefined || other.place < announced.place) known.set(oid, announced)
          else if (!other.payload.equals(announced.payload)) expected.push(text(other.payload))
        }
        lsn += 100n
        break
      }
      default: {
        let target = transaction
        const first = target === undefined || which % 3 === 0
        if (target === undefined || first) {
          target = { xid: xid++, subs: [], messages: [] }
          open.push(target)
        }
        send(Messages.streamStart(target.xid, first))
        for (const choice of rest) {
          if (choice % 5 === 0) target.subs.push(xid++)
          if (choice % 11 === 0) frames.push(Messages.keepalive(lsn))
          const of = target.subs[choice % (target.subs.length + 1)] ?? target.xid
          const payload = message(choice)
          target.messages.push({ xid: of, payload, place: frames.length })
          send(Messages.streamed(of, payload))
        }
        send(Messages.streamStop)
      }
    }
  }
  return { frames, expected }
}

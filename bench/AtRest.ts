/**
 * One commit at a time, and when it arrives: at a client of ours as an Arrow batch, and at `pg_recvlogical`, which reads the same log at the same time.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { Client } from "pg"
import { percentile } from "./client/percentile.ts"
import * as Commits from "./Commits.ts"
import { Installed } from "./Installed.ts"
import { ClientError, type Measurement } from "./Measurement.ts"
import * as References from "./References.ts"
import * as Server from "./Server.ts"

const warmUp = 50
/** Milliseconds from one commit's arrival to the next commit. */
const between = 10

/** A process of which every piece of output is timed. */
const timed = (child: ChildProcess, output: "stdout" | "stderr") => {
  const ended = Promise.withResolvers<never>()
  ended.promise.catch(() => {})
  child.once("exit", (code) => ended.reject(new Error(`${child.spawnfile} ended with ${code}`)))
  child.once("error", ended.reject)
  let arrived: ((at: number) => void) | undefined
  child[output]?.on("data", () => {
    arrived?.(performance.now())
    arrived = undefined
  })
  return {
    /** When output comes next; fails when the process ends. */
    next: () =>
      Promise.race([
        ended.promise,
        new Promise<number>((resolve) => {
          arrived = resolve
        })
      ])
  }
}

const spawned = (command: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** So many commits of one row; milliseconds from the commit's acknowledgement to its arrival. */
export const run = Effect.fnUntraced(function*(references: References.References, server: Server.Server, rows: number) {
  const written = yield* Commits.fresh(server)
  const slot = yield* Server.slotFor(server, written)
  const other = yield* Server.slotFor(server, written, "reference")
  const options = {
    ...Server.slotOptions(server, written, slot),
    until: Server.never,
    rows: Number.MAX_SAFE_INTEGER,
    warmUp: 0,
    signals: true
  }
  const { client: script } = yield* Installed
  const ours = yield* spawned(process.execPath, [
    "--import",
    script("heap"),
    script("latency"),
    JSON.stringify(options)
  ])
  const reference = References.recvlogical(server, { ...written, until: Server.never }, other, "-")
  const theirs = yield* spawned(references.recvlogical, reference, References.environment(server))
  const client = new Client(server.url)
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.promise(() => client.end())
  )
  const [seenByUs, seenByThem] = [timed(ours, "stderr"), timed(theirs, "stdout")]
  const arrivals: { readonly ours: Array<number>; readonly theirs: Array<number> } = { ours: [], theirs: [] }
  const begun = performance.now()
  const made = async () => {
    await seenByUs.next() // it is ready
    for (let commit = 0; commit < rows + warmUp; commit++) {
      await new Promise((resolve) => setTimeout(resolve, commit === 0 ? 1000 : between))
      const both = Promise.all([seenByUs.next(), seenByThem.next()])
      await client.query(`INSERT INTO single VALUES (${2_000_000 + commit}, 'a value of some length')`)
      const acknowledged = performance.now()
      const [here, there] = await both
      if (commit < warmUp) continue
      arrivals.ours.push(Math.max(0, here - acknowledged))
      arrivals.theirs.push(Math.max(0, there - acknowledged))
    }
  }
  yield* Effect.tryPromise({ try: made, catch: (cause) => new ClientError({ message: String(cause) }) })
  const of = (p: number) => ({ own: percentile(arrivals.ours, p), reference: percentile(arrivals.theirs, p) })
  const [p50, p99] = [of(0.5), of(0.99)]
  return {
    seconds: (performance.now() - begun) / 1000,
    cpuSeconds: Server.processSeconds(ours.pid ?? 0),
    peakRssMB: Server.peakMB(ours.pid ?? 0),
    rows,
    figures: {
      p50: p50.own,
      p99: p99.own,
      p50Above: p50.own - p50.reference,
      p99Above: p99.own - p99.reference,
      referenceP50: p50.reference,
      referenceP99: p99.reference,
      referenceCpuSeconds: Server.processSeconds(theirs.pid ?? 0)
    }
  } satisfies Measurement
}, Effect.scoped)

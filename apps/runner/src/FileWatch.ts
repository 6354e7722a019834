/**
 * Tells when the text of a file has changed, however it is changed: written in place, replaced by a rename (as editors do), or by a symbolic link above it that
 * is turned (as mounted ConfigMaps do).
 *
 * The system's notifications of the file's folder only say when to look, since what they say of a file that is replaced differs between systems and editors,
 * and network file systems give none; looking every now and then is the net. The text is compared, so that a touched file is no change, and a file
 * that is away or still being written is waited for.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { dirname } from "node:path"

export interface Options {
  /** How often the file is looked at without a notification. Default: 2 seconds. */
  readonly poll?: Duration.Input
  /** For how long a file has to be left alone before it is read. Default: 100 milliseconds. */
  readonly settled?: Duration.Input
  /** `digestOf` the file when it was last read: a change since then is one. Default: as it is now. */
  readonly since?: string | undefined
}

/** What tells versions of a file apart without reading it; undefined when it is not there. */
const stampOf = (path: string): string | undefined => {
  try {
    const { ctimeNs, dev, ino, mtimeNs, size } = Fs.statSync(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join()
  } catch {
    return undefined
  }
}

/** Tells texts of a file apart; undefined when it can't be read. */
export const digestOf = (path: string): string | undefined => {
  try {
    return createHash("sha256").update(Fs.readFileSync(path)).digest("hex")
  } catch {
    return undefined
  }
}

/** Looks at `path` until the scope closes. The effect completes each time that its text has changed since the last time; several changes may be one. */
export const make = Effect.fnUntraced(function*(
  path: string,
  options: Options = {}
): Effect.fn.Return<Effect.Effect<void>, never, Scope.Scope> {
  const poll = options.poll ?? "2 seconds"
  const settled = options.settled ?? "100 millis"
  const hints = yield* Queue.sliding<void>(1)
  const changes = yield* Queue.sliding<void>(1)
  let stamp = options.since === undefined ? stampOf(path) : undefined
  let digest = options.since ?? digestOf(path)

  yield* Effect.acquireRelease(
    Effect.sync(() => {
      try {
        const watcher = Fs.watch(dirname(path), { persistent: false }, () => {
          Queue.offerUnsafe(hints, undefined)
        })
        // The folder was removed, or the system has no more watches: looking goes on.
        watcher.on("error", () => watcher.close())
        return watcher
      } catch {
        return undefined
      }
    }),
    (watcher) => Effect.sync(() => watcher?.close())
  )

  const look = Effect.gen(function*() {
    let found = stampOf(path)
    if (found === undefined || found === stamp) return
    // Whoever writes it may not be ready.
    while (true) {
      yield* Effect.sleep(settled)
      const later = stampOf(path)
      if (later === undefined) return
      if (later === found) break
      found = later
    }
    const now = digestOf(path)
    if (now === undefined) return
    stamp = found
    if (now === digest) return
    digest = now
    yield* Queue.offer(changes, undefined)
  })
  if (options.since !== undefined) yield* Queue.offer(hints, undefined)
  yield* Effect.forever(
    Effect.andThen(Effect.raceFirst(Queue.take(hints), Effect.sleep(poll)), look)
  ).pipe(Effect.forkScoped)
  return Queue.take(changes)
})

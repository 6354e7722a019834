/**
 * A worker thread of `EncodingPool`: calls go out, and their answers come back to whoever waits for them.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Worker } from "node:worker_threads"
import type { Answer, Call, Calls, Request } from "./EncodingProtocol.ts"
import { failure } from "./ErrorPolicy.ts"
import { Unwritable } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** A worker's heap holds no rows, only what is said of values that are refused: what is young there is few and small. */
const resourceLimits = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 8 }

/** The error of what a thread was to do that has ended. */
export const ended = (cause: unknown): Failed =>
  failure(
    "Unreachable",
    "A thread that encodes rows has ended",
    "The pipeline goes on from its last durable position. If it happens again, give the process more memory.",
    { cause }
  )

type Done = Exit.Exit<Calls[keyof Calls]["answer"], Unwritable | Failed>

export class EncodingThread {
  private readonly worker: Worker
  private readonly starting = Deferred.makeUnsafe<void, Failed>()
  private readonly calls = new Map<number, (done: Done) => void>()
  private lastCall = 0
  /** Sessions that it has. */
  sessions = 0
  private error: Failed | undefined

  /** Throws when there can't be another thread. */
  constructor(entry: URL, onEnd: (thread: EncodingThread) => void) {
    this.worker = new Worker(entry, {
      name: "etl-stream encoding",
      // What the process was started with is for its main thread: what to evaluate, to preload, to wait for a debugger.
      execArgv: [],
      resourceLimits
    })
    this.worker.unref()
    const end = (cause: unknown): void => {
      this.error ??= ended(cause)
      onEnd(this)
      for (const resume of this.calls.values()) resume(Exit.fail(this.error))
      this.calls.clear()
    }
    this.worker.on("message", (answer: Answer) => {
      if (answer._tag === "Ready") Deferred.doneUnsafe(this.starting, Exit.void)
      else this.answered(answer)
    })
    this.worker.on("error", (cause) => {
      end(cause)
      // Of one that was ready nobody asks that any more.
      Deferred.doneUnsafe(this.starting, Exit.fail(ended(cause)))
    })
    // An answer that can't be read, whoever waits for it.
    this.worker.on("messageerror", (cause) => {
      end(cause)
      void this.worker.terminate()
    })
    this.worker.on("exit", (code) => {
      end(new Error(`exit code ${code}`))
      // One that was told to end could have worked: what is asked of it fails.
      Deferred.doneUnsafe(this.starting, Exit.void)
    })
  }

  /** Fails when it can't work: it has failed before it was ready, as the next one would. */
  get ready(): Effect.Effect<void, Failed> {
    return Deferred.await(this.starting)
  }

  /** A thread that has work keeps the process alive, one that hasn't doesn't. */
  hold(): void {
    if (this.sessions++ === 0) this.worker.ref()
  }

  letGo(): void {
    if (--this.sessions === 0) this.worker.unref()
  }

  post(request: Request): void {
    this.worker.postMessage(request, [])
  }

  call(session: number, call: Call): Effect.Effect<Calls[keyof Calls]["answer"], Unwritable | Failed> {
    return Effect.callback((resume) => {
      if (this.error !== undefined) return resume(Effect.fail(this.error))
      const id = ++this.lastCall
      this.post({ _tag: "Call", session, id, call })
      this.calls.set(id, resume)
      return Effect.sync(() => this.calls.delete(id))
    })
  }

  private answered(answer: Exclude<Answer, { readonly _tag: "Ready" }>): void {
    const resume = this.calls.get(answer.id)
    this.calls.delete(answer.id)
    // One that nobody waits for any more.
    if (resume === undefined) return
    if (answer._tag === "Done") resume(Exit.succeed(answer.answer))
    else if (answer._tag === "Unwritable") resume(Exit.fail(new Unwritable(answer.column, answer.message)))
    else resume(Exit.die(answer.cause))
  }

  get terminate(): Effect.Effect<void> {
    return Effect.asVoid(Effect.promise(() => this.worker.terminate()))
  }
}

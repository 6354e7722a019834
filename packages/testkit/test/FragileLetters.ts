/**
 * Dead-letter stores in files that don't outlive the end of their process, in a module of their own for other processes.
 */
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"

const Config = Schema.Struct({ file: Schema.NonEmptyString })

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(DeadLetter))

const later = (millis = 5) => new Promise((resolve) => setTimeout(resolve, millis))

const stored = (file: string): ReadonlyArray<DeadLetter> =>
  Fs.existsSync(file)
    ? Fs.readFileSync(file, "utf8").split("\n").filter((line) => line !== "").map((line) => decode(line))
    : []

const make = (file: string, put: (text: string) => Promise<void>): DeadLetterStore => ({
  put: (letters) =>
    Effect.promise(async () => {
      const known = new Set(stored(file).map(({ id }) => id))
      const fresh = letters.filter(({ id }) => !known.has(id))
      for (const letter of fresh) await put(`${JSON.stringify(letter)}\n`)
      return fresh.length
    }),
  list: ({ table }) =>
    Stream.fromIterableEffect(
      Effect.sync(() => stored(file).filter((letter) => table === undefined || letter.table === table))
    ),
  get: (_, id) => Effect.sync(() => stored(file).find((letter) => letter.id === id)),
  remove: () => Effect.void
})

const store = (name: string, put: (file: string) => (text: string) => Promise<void>) =>
  Plugin.deadLetters({
    name,
    version: "1.0.0",
    summary: "Is tried",
    config: Config,
    make: ({ file }) => Effect.sync(() => make(file, put(file)))
  })

export const plugins = {
  /** What a crash leaves of a line spoils the file. */
  torn: store("torn", (file) => async (text) => {
    Fs.appendFileSync(file, text.slice(0, text.length / 2))
    await later(50)
    Fs.appendFileSync(file, text.slice(text.length / 2))
  }),
  /** Says that letters are kept which are on their way. */
  hasty: store("hasty", (file) => async (text) => {
    setTimeout(() => Fs.appendFileSync(file, text), 200)
    await later()
  }),
  /** Reads all, and writes all. */
  rewritten: store("rewritten", (file) => async (text) => {
    const before = Fs.existsSync(file) ? Fs.readFileSync(file, "utf8") : ""
    await later()
    const next = `${file}.${process.pid}`
    Fs.writeFileSync(next, before + text)
    Fs.renameSync(next, file)
  })
}

/**
 * `etl-stream encrypt`: encrypts a secret for one place of the configuration.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { type CommandError, usage } from "../CommandError.ts"
import * as EncryptedSecret from "../EncryptedSecret.ts"
import * as NamedStages from "../NamedStages.ts"
import type { Result as Printed } from "../Output.ts"
import { formatPath, parsePath } from "../Problem.ts"

export interface Options {
  /** Where the secret is to stand, such as `sources.shop.options.password`. */
  readonly place: string
}

/** A secret may be this large, in bytes: a private key is a tenth of it. */
const largest = 64 * 1024

const readStandardInput: Effect.Effect<Redacted.Redacted, CommandError> = Effect.gen(function*() {
  if (process.stdin.isTTY === true) {
    return yield* usage(
      "The secret is read from standard input, which is a terminal",
      "Pipe it in, so that it shows neither here nor in the shell's history: `etl-stream encrypt <place> < secret.txt`."
    )
  }
  const bytes = yield* Effect.tryPromise({
    try: async () => {
      const chunks: Array<Buffer> = []
      let size = 0
      for await (const chunk of process.stdin) {
        const buffer = Buffer.from(chunk)
        size += buffer.length
        if (size > largest) return undefined
        chunks.push(buffer)
      }
      return Buffer.concat(chunks)
    },
    catch: () => usage("Standard input can't be read", "Pipe the secret in.")
  })
  if (bytes === undefined) return yield* usage("The secret is too large", `It may have ${largest / 1024} KiB.`)
  const text = yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
    catch: () =>
      usage("The secret is no text in UTF-8", "Encode it, for example as base64, if what reads it allows that.")
  })
  const secret = text.replace(/\r?\n$/, "")
  return secret === ""
    ? yield* usage("Standard input is empty", "Pipe the secret in.")
    : Redacted.make(secret)
})

export const encrypt = Effect.fn("Encrypt.encrypt")(
  function*({ place }: Options): Effect.fn.Return<Printed, CommandError> {
    const path = parsePath(place)
    const [section] = path ?? []
    if (path === undefined || path.length < 2 || typeof section !== "string") {
      return yield* usage(
        `${place} is not a place in a configuration`,
        "Write it as problems are: `sources.shop.options.password`, `pipelines.shop.transforms[0].options.key`."
      )
    }
    const keys = yield* Result.match(EncryptedSecret.keysFrom(process.env), {
      onFailure: ({ message, remedy }) => Effect.fail(usage(message, remedy)),
      onSuccess: (keys) => Effect.succeed(keys)
    })
    const canonical = NamedStages.place(path)
    const reference = EncryptedSecret.encrypt(yield* readStandardInput, canonical, keys)
    return {
      command: "encrypt",
      data: { place: formatPath(canonical), key: keys.current.id, reference },
      text: reference
    }
  }
)

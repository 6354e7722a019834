/**
 * `etl-stream rotate-key`: brings the secrets of the configuration database under the current key.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type CommandError, usage } from "../CommandError.ts"
import * as Address from "../database/Address.ts"
import { using } from "../database/Opening.ts"
import * as Rotation from "../database/Rotation.ts"
import * as EncryptedSecret from "../EncryptedSecret.ts"
import type { Result as Printed } from "../Output.ts"

export interface Options {
  /** URL of the configuration database, or a reference to it. */
  readonly database: string | undefined
}

export const rotateKey = Effect.fn("RotateKey.rotateKey")(
  function*({ database }: Options): Effect.fn.Return<Printed, CommandError> {
    const url = yield* Address.requireUrl(database, process.env)
    const keys = yield* Result.match(EncryptedSecret.keysFrom(process.env), {
      onFailure: ({ message, remedy }) => Effect.fail(usage(message, remedy)),
      onSuccess: (keys) => Effect.succeed(keys)
    })
    const { rows, secrets } = yield* using(url, Rotation.run(keys))
    return {
      command: "rotate-key",
      data: { key: keys.current.id, secrets, rows },
      text: secrets === 0
        ? `All secrets are under the key ${keys.current.id} already.`
        : `Encrypted ${secrets} secret${secrets === 1 ? "" : "s"} anew with the key ${keys.current.id}: ${
          rows.join(", ")
        }`
    }
  }
)

/**
 * The commands about the configuration database, as the command line has them.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, file, Json } from "./CommandFlags.ts"
import * as Output from "./Output.ts"

const apply = Command.make(
  "apply",
  {
    file,
    database,
    dryRun: Flag.Boolean("dry-run").pipe(
      Flag.withDescription("Show what would change, and change nothing"),
      Flag.withDefault(false)
    ),
    prune: Flag.Boolean("prune").pipe(
      Flag.withDescription("Remove from the database what the file lacks"),
      Flag.withDefault(false)
    ),
    encrypt: Flag.Boolean("encrypt").pipe(
      Flag.withDescription("Encrypt secrets that the file spells out, with the key in ETL_STREAM_CONFIG_KEY"),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*({ database, ...options }) {
    const json = yield* Json
    const { apply } = yield* Effect.promise(() => import("./commands/Apply.ts"))
    yield* Output.succeed(yield* apply({ ...options, database: Option.getOrUndefined(database) }), json)
  })
).pipe(
  Command.withDescription(
    "Bring a configuration file into the configuration database, all of it or nothing, and show what is different. Makes the database's tables where there are none"
  ),
  Command.withExamples([
    { command: "etl-stream apply shop.yaml --dry-run", description: "See what would change" },
    {
      command: "etl-stream apply shop.yaml --prune",
      description: "Make the database say what the file says, and no more"
    }
  ])
)

const exportYaml = Command.make(
  "export",
  { database },
  Effect.fn(function*({ database }) {
    const json = yield* Json
    const { exportYaml } = yield* Effect.promise(() => import("./commands/Export.ts"))
    yield* Output.succeed(yield* exportYaml({ database: Option.getOrUndefined(database) }), json)
  })
).pipe(
  Command.withDescription(
    "Print the configuration database as YAML, which `apply` takes back. References and encrypted secrets stay as they are"
  )
)

const encrypt = Command.make(
  "encrypt",
  {
    place: Argument.String("place").pipe(
      Argument.withDescription("Where the secret is to stand, such as sources.shop.options.password")
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { encrypt } = yield* Effect.promise(() => import("./commands/Encrypt.ts"))
    yield* Output.succeed(yield* encrypt(options), json)
  })
).pipe(
  Command.withDescription(
    "Encrypt the secret on standard input with the key in ETL_STREAM_CONFIG_KEY, for one place of the configuration: it opens nowhere else"
  ),
  Command.withExamples([{
    command: "etl-stream encrypt sources.shop.options.password < password.txt",
    description: "Print what to write as that option"
  }])
)

const rotateKey = Command.make(
  "rotate-key",
  { database },
  Effect.fn(function*({ database }) {
    const json = yield* Json
    const { rotateKey } = yield* Effect.promise(() => import("./commands/RotateKey.ts"))
    yield* Output.succeed(yield* rotateKey({ database: Option.getOrUndefined(database) }), json)
  })
).pipe(
  Command.withDescription(
    "Encrypt the configuration database's secrets anew with the key in ETL_STREAM_CONFIG_KEY; the one in ETL_STREAM_CONFIG_KEY_PREVIOUS opens them. Pipelines go on"
  )
)

export const databaseCommands = [apply, exportYaml, encrypt, rotateKey] as const

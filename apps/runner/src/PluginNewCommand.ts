/**
 * The command line of `etl-stream plugin new`.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Json } from "./CommandFlags.ts"
import { create, kinds } from "./commands/PluginNew.ts"
import * as Output from "./Output.ts"

export const pluginNew = Command.make(
  "new",
  {
    kind: Argument.Literals("kind", kinds).pipe(Argument.withDescription(`What it is: ${kinds.join(", ")}`)),
    name: Argument.String("name").pipe(
      Argument.withDescription("Name of the package; `etl-stream-<kind>-` comes before it unless it is there"),
      Argument.optional
    ),
    directory: Flag.String("directory").pipe(
      Flag.withDescription("Folder for the project, which must be empty or new (default: the package's name)"),
      Flag.optional
    ),
    language: Flag.Literals("language", ["ts"]).pipe(
      Flag.withDescription("Language of the project (default, and the only one: ts)"),
      Flag.withDefault("ts" as const)
    )
  },
  Effect.fn(function*({ directory, kind, name }) {
    const json = yield* Json
    const made = yield* create({
      kind,
      name: Option.getOrUndefined(name),
      directory: Option.getOrUndefined(directory),
      from: process.cwd()
    })
    yield* Output.succeed(made, json)
  })
).pipe(
  Command.withDescription(
    "Write a project for a plugin of your own: one that builds, passes its conformance suite and can be published"
  ),
  Command.withExamples([
    {
      command: "etl-stream plugin new sink files",
      description: "Write the sink etl-stream-sink-files to ./etl-stream-sink-files"
    },
    {
      command: "etl-stream plugin new source @acme/orders --directory plugins/orders",
      description: "Write @acme/etl-stream-source-orders to plugins/orders"
    }
  ])
)

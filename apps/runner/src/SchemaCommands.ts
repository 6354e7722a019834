/**
 * Commands that tell what the schemas of the configuration and of plugins say.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Json } from "./CommandFlags.ts"
import * as Output from "./Output.ts"

export const pluginDocs = Command.make(
  "docs",
  {
    name: Argument.String("plugin").pipe(
      Argument.withDescription(
        "Name of the plugin as a configuration in this folder would have it; a path begins with ./"
      )
    ),
    format: Flag.Literals("format", ["markdown", "json"]).pipe(
      Flag.withDescription("What to print (default: markdown)"),
      Flag.withDefault("markdown" as const)
    )
  },
  Effect.fn(function*({ format, name }) {
    const json = yield* Json
    const { docs } = yield* Effect.promise(() => import("./commands/PluginDocs.ts"))
    yield* Output.succeed(yield* docs({ name, format, directory: process.cwd() }), json)
  })
).pipe(
  Command.withDescription("Print what a plugin does, its options and examples"),
  Command.withExamples([
    { command: "etl-stream plugin docs @etl-stream/source-postgres", description: "A built-in plugin" },
    {
      command: "etl-stream plugin docs ./transforms/mask.ts --format json",
      description: "One of your own, for a program"
    }
  ])
)

export const schema = Command.make(
  "schema",
  {
    file: Flag.String("file").pipe(
      Flag.withDescription(
        "Configuration file whose plugins the schema is to know, local ones too; default: those of this folder's project"
      ),
      Flag.optional
    ),
    plugins: Flag.String("plugin").pipe(
      Flag.withDescription("Name of a further plugin"),
      Flag.atLeast(0)
    ),
    output: Flag.String("output").pipe(
      Flag.withDescription("File to write instead of printing it"),
      Flag.optional
    )
  },
  Effect.fn(function*({ file, output, plugins }) {
    const json = yield* Json
    const { schema } = yield* Effect.promise(() => import("./commands/Schema.ts"))
    const options = {
      file: Option.getOrUndefined(file),
      plugins,
      output: Option.getOrUndefined(output),
      directory: process.cwd()
    }
    yield* Output.succeed(yield* schema(options), json)
  })
).pipe(
  Command.withDescription("Print the JSON Schema of configuration files, by which editors complete and check them"),
  Command.withExamples([
    {
      command: "etl-stream schema --file shop.yaml --output .etl-stream/schema.json",
      description: "Write it for `# yaml-language-server: $schema=.etl-stream/schema.json` in the file's first line"
    }
  ])
)

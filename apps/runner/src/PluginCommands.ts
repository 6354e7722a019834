/**
 * The commands about plugins, and the one that prints what they and the runner take as a schema for editors.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Verdict } from "./CommandError.ts"
import { Json } from "./CommandFlags.ts"
import { create, kinds } from "./commands/PluginNew.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Output from "./Output.ts"

const pluginList = Command.make(
  "list",
  {
    file: Flag.String("file").pipe(
      Flag.withDescription("List the plugins that this configuration file names instead, and where it names them"),
      Flag.optional
    )
  },
  Effect.fn(function*({ file }) {
    const json = yield* Json
    const { list } = yield* Effect.promise(() => import("./commands/PluginList.ts"))
    yield* Output.succeed(yield* list({ directory: process.cwd(), file: Option.getOrUndefined(file) }), json)
  })
).pipe(
  Command.withDescription(
    "List the built-in plugins, those of the project around this folder and those installed beside etl-stream: kind, version, path, and what is wrong with them"
  )
)

const pluginTest = Command.make(
  "test",
  {
    plugin: Argument.String("plugin").pipe(
      Argument.withDescription(
        "An installed package, a package's folder, or the module of its suites; the package around this folder when none is named"
      ),
      Argument.optional
    ),
    only: Flag.String("only").pipe(
      Flag.withDescription("Only cases with this text in their names, or in the names of their plugins"),
      Flag.optional
    )
  },
  Effect.fn(function*({ only, plugin }) {
    const json = yield* Json
    const { test } = yield* Effect.promise(() => import("./commands/PluginTest.ts"))
    const result = yield* test({
      plugin: Option.getOrUndefined(plugin),
      only: Option.getOrUndefined(only),
      directory: process.cwd(),
      json
    })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Run the conformance suites of a plugin package, without a test runner. Exits with 1 when a case fails, 2 when there are no suites, 3 when they can't be loaded"
  ),
  Command.withExamples([
    { command: "etl-stream plugin test", description: "Test the plugin of this folder" },
    { command: "etl-stream plugin test --only interrupted", description: "Run the cases about interruption again" }
  ])
)

const pluginDocs = Command.make(
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

const pluginNew = Command.make(
  "new",
  {
    kind: Argument.Literals("kind", kinds).pipe(Argument.withDescription(`What it is: ${kinds.join(", ")}`)),
    name: Argument.String("name").pipe(
      Argument.withDescription(
        "Name of the package; `etl-stream-<kind>-` comes before it unless it is there (`etl-stream-dead-letters-` for deadLetters)"
      ),
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

/** `etl-stream plugin` and what is below it. */
export const plugin = Command.make("plugin").pipe(
  Command.withDescription("About plugins"),
  Command.withSubcommands([pluginList, pluginDocs, pluginTest, pluginNew])
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

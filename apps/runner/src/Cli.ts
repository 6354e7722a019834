/**
 * The command line: commands, flags, help.
 *
 * What a command does is loaded when it runs, so that `--help` and `validate` don't pay for the engine. Handlers end in a `CommandError` or print their
 * result; `run` of this module turns both into an exit code.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Argument from "effect/cli/Argument"
import * as CliConfig from "effect/cli/CliConfig"
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CommandError, internal, usage, Verdict } from "./CommandError.ts"
import { database, file, Json } from "./CommandFlags.ts"
import { databaseCommands } from "./DatabaseCommands.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Invocation from "./Invocation.ts"
import { formats } from "./Logging.ts"
import * as Output from "./Output.ts"
import { plugin, schema } from "./PluginCommands.ts"
import * as Redaction from "./Redaction.ts"
import * as RemoteCommands from "./RemoteCommands.ts"

const period = (name: string, fallback: Duration.Duration) =>
  Flag.String(name).pipe(
    Flag.withSchema(Schema.DurationFromString.check(
      Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0, {
        expected: "a duration above 0, such as \"30 seconds\""
      })
    )),
    Flag.withDefault(fallback)
  )

const validate = Command.make(
  "validate",
  {
    file,
    offline: Flag.Boolean("offline").pipe(
      Flag.withDescription("Leave ${env:…} and ${file:…} unresolved and check the rest"),
      Flag.withDefault(false)
    ),
    connect: Flag.Boolean("connect").pipe(
      Flag.withDescription(
        "Also ask the sources for their tables, and the transforms what they make of each. Changes nothing at the sources"
      ),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { validate } = yield* Effect.promise(() => import("./commands/Validate.ts"))
    const result = yield* validate({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Check a configuration file: YAML, options, plugins, references. Connects to nothing without --connect. " +
      "Exits with 2 on problems, 3 when something can't be reached"
  ),
  Command.withExamples([
    { command: "etl-stream validate shop.yaml", description: "Check the file alone" },
    {
      command: "etl-stream validate shop.yaml --connect",
      description: "See which table becomes which, with its columns, and what a transform has against it"
    }
  ])
)

const run = (version: string) =>
  Command.make(
    "run",
    {
      file: Argument.String("file.yaml").pipe(
        Argument.withDescription("Configuration file; without one the configuration comes from a database"),
        Argument.optional
      ),
      database,
      watch: Flag.Boolean("watch").pipe(
        Flag.withDescription("Take changes of the file over by themselves, as SIGHUP does"),
        Flag.withDefault(false)
      ),
      poll: period("config-poll", Duration.seconds(30)).pipe(
        Flag.withDescription(
          "How often the configuration database is looked at besides its notifications (default: 30 seconds)"
        )
      ),
      drainTimeout: period("drain-timeout", Duration.seconds(30)).pipe(
        Flag.withDescription("How long a graceful stop may take (default: 30 seconds)")
      ),
      view: Flag.Boolean("view").pipe(
        Flag.withDescription("Show live progress when standard output is a terminal (default); --no-view logs instead"),
        Flag.withDefault(true)
      ),
      progressEvery: period("progress-every", Duration.seconds(10)).pipe(
        Flag.withDescription("How often progress is logged without the live view (default: 10 seconds)")
      ),
      http: Flag.Boolean("http").pipe(
        Flag.withDescription(
          "Serve the HTTP API, on 127.0.0.1:8086 without a section `http` in the file; --no-http leaves it out (default: as the file says)"
        ),
        Flag.optional
      ),
      logFormat: Flag.Literals("log-format", formats).pipe(
        Flag.withDescription("Format of log lines (default: pretty on a terminal, otherwise logfmt; json with --json)"),
        Flag.optional
      )
    },
    Effect.fn(function*(options) {
      const json = yield* Json
      const { run } = yield* Effect.promise(() => import("./commands/Run.ts"))
      yield* Output.succeed(
        yield* run({
          ...options,
          file: Option.getOrUndefined(options.file),
          database: Option.getOrUndefined(options.database),
          logFormat: Option.getOrUndefined(options.logFormat),
          http: Option.getOrUndefined(options.http),
          json,
          version
        }),
        json
      )
    })
  ).pipe(
    Command.withDescription(
      "Run every pipeline of a configuration file or database until SIGTERM or Ctrl-C. SIGHUP reloads a file: what changed in it starts anew, the rest goes on; changes in a database always take effect at once"
    ),
    Command.withExamples([
      {
        command: "etl-stream run shop.yaml",
        description: "Run with a live view on a terminal, with log lines otherwise"
      },
      {
        command: "etl-stream run shop.yaml --json --drain-timeout \"10 seconds\"",
        description: "Run under a service manager"
      },
      {
        command: "etl-stream run --config-db '${file:/run/secrets/config-db}'",
        description: "Run what a configuration database says, and follow it"
      }
    ])
  )

const doctor = Command.make(
  "doctor",
  {
    file,
    pipelines: Argument.String("pipeline").pipe(
      Argument.withDescription("Pipelines to check; all when none is named"),
      Argument.variadic({ min: 0 })
    ),
    checkTimeout: period("check-timeout", Duration.minutes(1)).pipe(
      Flag.withDescription("How long the checks of one source or sink may take (default: 1 minute)")
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { doctor } = yield* Effect.promise(() => import("./commands/Doctor.ts"))
    const result = yield* doctor({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Check sources and sinks for everything that a run needs, with the SQL of each remedy. Changes nothing. " +
      "Exits with 2 on critical findings, 3 when something can't be reached"
  )
)

const resync = Command.make(
  "resync",
  {
    file,
    tables: Argument.String("table").pipe(
      Argument.withDescription("Table as the source names it: schema.name; parts with dots in double quotes"),
      Argument.variadic({ min: 1 })
    ),
    pipeline: Flag.String("pipeline").pipe(
      Flag.withDescription("The tables' pipeline; needed when the file has several"),
      Flag.optional
    ),
    wait: Flag.Literals("wait", ["begun", "complete"]).pipe(
      Flag.withDescription("Wait until the copies have begun, or until they are complete"),
      Flag.optional
    ),
    url: Flag.String("url").pipe(
      Flag.withDescription(
        "Ask the running process by its HTTP API at this URL, instead of by the state store; without --wait"
      ),
      Flag.optional
    )
  },
  Effect.fn(function*({ file, pipeline, tables, url, wait }) {
    const json = yield* Json
    if (Option.isSome(url)) {
      if (Option.isSome(wait)) {
        return yield* usage(
          "`--wait` doesn't go with `--url`",
          "Leave one out: how far a copy is shows `etl-stream status`."
        )
      }
      const { resync } = yield* Effect.promise(() => import("./commands/Remote.ts"))
      const asked = yield* resync({ file, url: url.value, tables, pipeline: Option.getOrUndefined(pipeline) })
      return yield* Output.succeed(asked, json)
    }
    const { resync } = yield* Effect.promise(() => import("./commands/Resync.ts"))
    const options = { file, tables, pipeline: Option.getOrUndefined(pipeline), wait: Option.getOrUndefined(wait), json }
    yield* Output.succeed(yield* resync(options), json)
  })
).pipe(
  Command.withDescription(
    "Ask for a new copy of single tables. The pipeline's run takes it up, or its next start; its other tables go on as they are"
  ),
  Command.withExamples([
    { command: "etl-stream resync shop.yaml public.orders", description: "Copy one table again" },
    {
      command: "etl-stream resync shop.yaml --wait complete public.orders public.items",
      description: "Wait until the copy is complete; exit with 1 when it is refused"
    }
  ])
)

const letterOptions = {
  file,
  pipeline: Flag.String("pipeline").pipe(
    Flag.withDescription("The pipeline; needed when the file has several"),
    Flag.optional
  ),
  table: Flag.String("table").pipe(
    Flag.withDescription("Only letters of this table, as the source names it: schema.name"),
    Flag.optional
  ),
  column: Flag.String("column").pipe(
    Flag.withDescription("Only letters of this column, as the source names it"),
    Flag.optional
  ),
  ids: Argument.String("letter").pipe(
    Argument.withDescription("Letters by their ids; all that are selected when none is named"),
    Argument.variadic({ min: 0 })
  )
}

const selected = (options: {
  readonly file: string
  readonly pipeline: Option.Option<string>
  readonly table: Option.Option<string>
  readonly column: Option.Option<string>
  readonly ids: ReadonlyArray<string>
}) => ({
  file: options.file,
  pipeline: Option.getOrUndefined(options.pipeline),
  table: Option.getOrUndefined(options.table),
  column: Option.getOrUndefined(options.column),
  ids: options.ids
})

const lettersList = Command.make(
  "ls",
  { file, pipeline: letterOptions.pipeline },
  Effect.fn(function*({ file, pipeline }) {
    const json = yield* Json
    const { list } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* Output.succeed(yield* list({ file, pipeline: Option.getOrUndefined(pipeline) }), json)
  })
).pipe(Command.withDescription("Count dead letters by pipeline, table, column and reason"))

const lettersShow = Command.make(
  "show",
  letterOptions,
  Effect.fn(function*(options) {
    const json = yield* Json
    const { show } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* show({ ...selected(options), json })
  })
).pipe(
  Command.withDescription("Print dead letters with the values of their rows; with --json one JSON line per letter")
)

const lettersReplay = Command.make(
  "replay",
  letterOptions,
  Effect.fn(function*(options) {
    const json = yield* Json
    const { replay } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    const result = yield* replay(selected(options))
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Write dead letters' values to their rows, with the configuration as it is now, where no later change has come. Exits with 1 when letters are left"
  )
)

const lettersDrop = Command.make(
  "drop",
  {
    ...letterOptions,
    all: Flag.Boolean("all").pipe(
      Flag.withDescription("Drop all letters of the pipeline when none is named"),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { drop } = yield* Effect.promise(() => import("./commands/DeadLetters.ts"))
    yield* Output.succeed(yield* drop({ ...selected(options), all: options.all }), json)
  })
).pipe(Command.withDescription("Forget dead letters: the values in them are lost"))

const letters = Command.make("dlq").pipe(
  Command.withDescription("Dead letters: values that a sink could not write"),
  Command.withSubcommands([lettersList, lettersShow, lettersReplay, lettersDrop]),
  Command.withExamples([
    { command: "etl-stream dlq ls shop.yaml", description: "What could not be written, and why" },
    {
      command: "etl-stream dlq replay shop.yaml --table public.orders",
      description: "Write it after its column was mended"
    }
  ])
)

const alertTest = Command.make(
  "test",
  {
    file,
    notifiers: Argument.String("notifier").pipe(
      Argument.withDescription("Notifiers of the file to try; all when none is named"),
      Argument.variadic({ min: 0 })
    )
  },
  Effect.fn(function*(options) {
    const json = yield* Json
    const { test } = yield* Effect.promise(() => import("./commands/AlertTest.ts"))
    const result = yield* test({ ...options, json })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Send a test alert and its end through notifiers, whatever the rules say. Exits with 3 when one has to be mended outside, 1 on other failures"
  )
)

const alert = Command.make("alert").pipe(
  Command.withDescription("About alerts and the notifiers that tell them"),
  Command.withSubcommands([alertTest]),
  Command.withExamples([
    { command: "etl-stream alert test shop.yaml", description: "Try every notifier of the file" },
    { command: "etl-stream alert test shop.yaml slack --json", description: "Try one, for a script" }
  ])
)

const test = Command.make(
  "test",
  {
    file: Argument.String("file.yaml").pipe(
      Argument.withDescription("Configuration file, whose tests are in file.test.yaml beside it; or a file of tests")
    ),
    only: Flag.String("only").pipe(Flag.withDescription("Only tests with this text in their names"), Flag.optional)
  },
  Effect.fn(function*({ file, only }) {
    const json = yield* Json
    const { test } = yield* Effect.promise(() => import("./commands/Test.ts"))
    const result = yield* test({ file, only: Option.getOrUndefined(only) })
    yield* Output.succeed(result, json)
    const { exitCode = ExitCode.ok } = result
    if (exitCode !== ExitCode.ok) return yield* new Verdict({ exitCode })
  })
).pipe(
  Command.withDescription(
    "Run the tests of a configuration's transforms, written in YAML: what comes in, what is to come out. Connects to nothing. Exits with 1 when one fails"
  ),
  Command.withExamples([
    { command: "etl-stream test shop.yaml", description: "Run the tests in shop.test.yaml" }
  ])
)

const root = (version: string) =>
  Command.make("etl-stream").pipe(
    Command.withDescription(
      "Keeps a warehouse in step with a database: consistent snapshot, then every change, exactly once"
    ),
    Command.withSubcommands([
      run(version),
      validate,
      test,
      ...databaseCommands,
      doctor,
      RemoteCommands.status,
      RemoteCommands.pause,
      RemoteCommands.resume,
      RemoteCommands.stop,
      RemoteCommands.tap,
      resync,
      letters,
      alert,
      plugin,
      schema
    ]),
    Command.withGlobalFlags([Json])
  )

const usageError = (errors: ReadonlyArray<CliError.NonShowHelpErrors>, command: string): CommandError =>
  usage(errors.map((error) => error.message.replace(/\s+/g, " ").trim()).join("; "), `See \`${command} --help\`.`)

/** Runs the command line `args` (without the program's name), prints its result and gives the exit code. */
export const execute = (args: ReadonlyArray<string>, version: string): Effect.Effect<ExitCode> => {
  const json = Invocation.wantsJson(args)
  const command = Invocation.commandName(args)
  const presenter = CliOutput.layerPresenter({
    present: (event) => {
      switch (event._tag) {
        case "InvalidInvocation":
          return Output.fail(command, usageError(event.errors, event.commandPath.join(" ")), json, Redaction.none)
        case "Version":
          return Output.succeed({ command: "version", data: { version: event.version }, text: event.version }, json)
        case "Help":
          return CliOutput.defaultPresenter.present(event)
      }
    }
  })
  const config = CliConfig.layer({
    builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]
  })
  return Command.runWith(root(version), { version })(args).pipe(
    Effect.provide([NodeServices.layer, presenter, config]),
    Effect.exit,
    Effect.flatMap((exit) =>
      Exit.isSuccess(exit)
        ? Effect.succeed(ExitCode.ok)
        : report(exit.cause, command, json, Invocation.wantsDetails(args))
    )
  )
}

const report = Effect.fnUntraced(
  function*(cause: Cause.Cause<unknown>, command: string, json: boolean, details: boolean) {
    const failure = Cause.squash(cause)
    if (isShowHelp(failure)) return failure.errors.length === 0 ? ExitCode.ok : ExitCode.validation
    if (failure instanceof Verdict) return failure.exitCode
    const error = failure instanceof CommandError ? failure : internal("etl-stream", failure)
    yield* Output.fail(command, error, json, Redaction.none)
    if (details) yield* Effect.sync(() => process.stderr.write(`${error.details ?? Cause.pretty(cause)}\n`))
    return error.exitCode
  }
)

const isShowHelp = (failure: unknown): failure is CliError.ShowHelp =>
  typeof failure === "object" && failure !== null && "_tag" in failure && failure._tag === "ShowHelp"

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
import { alert } from "./AlertCommands.ts"
import { doctor, test, validate } from "./CheckCommands.ts"
import { CommandError, internal, usage, Verdict } from "./CommandError.ts"
import { database, file, Json, period } from "./CommandFlags.ts"
import { databaseCommands } from "./DatabaseCommands.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Invocation from "./Invocation.ts"
import { letters } from "./LetterCommands.ts"
import { formats } from "./Logging.ts"
import * as Output from "./Output.ts"
import { plugin, schema } from "./PluginCommands.ts"
import * as Redaction from "./Redaction.ts"
import * as RemoteCommands from "./RemoteCommands.ts"

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

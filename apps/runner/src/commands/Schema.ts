/**
 * `etl-stream schema`: prints the JSON Schema of configuration files, for editors.
 *
 * It knows the plugins that a configuration there can name (as `plugin list` shows them), those that `--plugin` names and those that a file names: the local ones too.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { dirname, resolve } from "node:path"
import { CommandError, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import * as PluginInventory from "../PluginInventory.ts"
import * as PluginLoader from "../PluginLoader.ts"
import * as PluginUses from "../PluginUses.ts"
import * as ConfigurationJsonSchema from "../schema/ConfigurationJsonSchema.ts"

export interface Options {
  /** A configuration whose plugins, and whose folder's, are to be known; undefined: those of the folder `directory`. */
  readonly file: string | undefined
  readonly plugins: ReadonlyArray<string>
  /** Where to write it; undefined: it is the result. */
  readonly output: string | undefined
  readonly directory: string
}

/** Why a plugin's options aren't in the schema. */
interface Missing {
  readonly plugin: string
  readonly problem: string
}

const writeFile = (path: string, text: string) =>
  Effect.try({
    try: () => {
      Fs.mkdirSync(dirname(path), { recursive: true })
      Fs.writeFileSync(path, text)
    },
    catch: (cause) =>
      new CommandError({
        code: "Forbidden",
        message: `${path} can't be written`,
        hint: "Give another path, or mend its folder's permissions.",
        exitCode: ExitCode.environment,
        cause
      })
  })

export const schema = Effect.fn("Schema.schema")(
  function*({ directory, file, output, plugins }: Options): Effect.fn.Return<Result, CommandError> {
    const base = file === undefined ? directory : dirname(resolve(directory, file))
    const document = file === undefined ? undefined : (yield* Configuration.parse(file)).value
    // What a reference stands for is known when it is resolved.
    const used = PluginUses.find(document).flatMap(({ plugin }) => plugin.includes("${") ? [] : [plugin])
    // Those that are asked for have to be there; of others the rest of the schema is still of use.
    const asked = yield* Effect.forEach(
      plugins,
      (name) => PluginLoader.find(name, base).pipe(Effect.mapError(({ hint, message }) => usage(message, hint)))
    )
    const missing: Array<Missing> = []
    const found = yield* Effect.forEach(
      new Set([...(yield* PluginInventory.names(base)), ...used]),
      (name) =>
        PluginLoader.find(name, base).pipe(
          Effect.catch(({ hint, message }) =>
            Effect.sync((): undefined => {
              missing.push({ plugin: name, problem: `${message} ${hint}` })
            })
          )
        )
    )
    const known = new Map(
      [...found.filter((loaded) => loaded !== undefined), ...asked].map((loaded) => [loaded.name, loaded])
    )
    const made = ConfigurationJsonSchema.make([...known.values()])
    yield* Effect.sync(() => {
      for (const { plugin, problem } of missing) {
        process.stderr.write(`etl-stream: the options of ${plugin} are not in the schema: ${problem}\n`)
      }
    })
    const data = { plugins: [...known.keys()], missing }
    if (output === undefined) {
      return { command: "schema", data: { ...data, schema: made }, text: JSON.stringify(made, null, 2) }
    }
    yield* writeFile(resolve(directory, output), `${JSON.stringify(made, null, 2)}\n`)
    return {
      command: "schema",
      data: { ...data, output },
      text: `${output} is written. Name it in the first line of a configuration, relative to its folder:\n` +
        `# yaml-language-server: $schema=${output}`
    }
  }
)

/**
 * `etl-stream plugin new`: writes a project for a plugin of one's own.
 *
 * What it writes are files of `templates`, which are real ones: checked, linted and built like everything else here. In them
 * `etl-stream-kind-example` stands for the package's name; ours and Effect's versions are those of this runner. Nothing that is there is ever written over.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { basename, dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { CommandError, usage } from "../CommandError.ts"
import { ExitCode } from "../ExitCode.ts"
import type { Result } from "../Output.ts"
import * as PluginShape from "../PluginShape.ts"

/** Kinds of plugins that there are templates for. */
export const kinds = ["source", "transform", "sink", "state", "notifier", "deadLetters", "monitor"] as const
export type Kind = typeof kinds[number]

export interface Options {
  readonly kind: Kind
  /** As the user gives it: `orders`, `etl-stream-source-orders`, `@acme/orders`; `example` when not given. */
  readonly name: string | undefined
  /** Relative to `from`; default: a folder there that has the package's name without its scope. */
  readonly directory: string | undefined
  /** The folder that the command runs in, absolute. */
  readonly from: string
}

const runner = join(dirname(fileURLToPath(import.meta.url)), "..", "..")
const templates = join(runner, "templates")

/** Stands in the templates for the package's name. */
const placeholder = "etl-stream-kind-example"

/** npm takes no longer names. */
const longestName = 214

/** Words of lower-case letters and digits with `-`, `_` or `.` between them: what npm takes, and what is safe as a folder's name. */
const plain = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/

const isPlain = (text: string): boolean => plain.test(text)

/** `text` as `plain` has it, as far as anything is left of it. */
const plainForm = (text: string): string =>
  text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "") || "example"

/** What names of packages of this kind begin with: in them there are no capitals. */
export const prefixOf = (kind: Kind): string =>
  `etl-stream-${kind.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}-`

/** The package's name by the convention `etl-stream-<kind>-<name>`, in a scope if the user gives one. */
export const packageName = (kind: Kind, name = "example"): Effect.Effect<string, CommandError> => {
  const [, scope, own = ""] = /^(?:@([^/]*)\/)?(.*)$/s.exec(name) ?? []
  const prefix = prefixOf(kind)
  const convention = `Packages are called \`${prefix}<name>\`, in a scope or not.`
  if (!isPlain(own) || (scope !== undefined && !isPlain(scope))) {
    const meant = `${scope === undefined ? "" : `@${plainForm(scope)}/`}${plainForm(own)}`
    return Effect.fail(
      usage(
        "A package can't have that name: it may have lower-case letters and digits, with `-`, `_` or `.` between them",
        `Try \`${meant}\`. ${convention}`
      )
    )
  }
  const other = kinds.find((kind) => own.startsWith(prefixOf(kind)))
  if (other !== undefined && other !== kind) {
    return Effect.fail(
      usage(
        `\`${own}\` is the name of a ${PluginShape.kinds[other]} by convention, not of a ${PluginShape.kinds[kind]}`,
        `\`etl-stream plugin new ${other}\` makes one. ${convention}`
      )
    )
  }
  const full = `${scope === undefined ? "" : `@${scope}/`}${other === undefined ? prefix : ""}${own}`
  return full.length > longestName
    ? Effect.fail(usage(`A package's name has ${longestName} characters at most`, "Choose a shorter one."))
    : Effect.succeed(full)
}

/** Folders of `templates` that a project is made of. */
const parts: Readonly<Record<Kind, ReadonlyArray<string>>> = {
  source: ["package", "source", "print"],
  transform: ["package", "transform", "numbers", "print"],
  sink: ["package", "sink", "numbers"],
  state: ["package", "state", "numbers", "print"],
  notifier: ["package", "notifier", "numbers", "print"],
  deadLetters: ["package", "deadLetters", "numbers", "picky"],
  monitor: ["package", "monitor", "numbers", "print"]
}

/** What a version control may have put into a folder that is otherwise new. */
const mayBeThere = new Set([".git"])

const isNotThere = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT"

/** Fails when something is at `directory` that isn't an empty folder. */
const checkFree = (directory: string, shown: string): Effect.Effect<void, CommandError> =>
  Effect.suspend(() => {
    try {
      const found = Fs.readdirSync(directory).filter((name) => !mayBeThere.has(name))
      return found.length === 0 ? Effect.void : Effect.fail(
        usage(`The folder ${shown} is not empty`, "Nothing is written over: name another folder with `--directory`.")
      )
    } catch (cause) {
      return isNotThere(cause) ? Effect.void : Effect.fail(
        usage(`${shown} can't be used as a folder`, "Name another one with `--directory`.")
      )
    }
  })

const PackageJson = Schema.fromJsonString(
  Schema.Struct({ version: Schema.String, dependencies: Schema.Record(Schema.String, Schema.String) })
)

/** Versions that a plugin of today is written for: those of this runner. */
const versions = (): { readonly ours: string; readonly effect: string } => {
  const text = Fs.readFileSync(join(runner, "package.json"), "utf8")
  const { dependencies, version } = Schema.decodeUnknownSync(PackageJson)(text)
  return { ours: version, effect: dependencies["effect"] ?? "" }
}

/** The template's `package.json` with this runner's versions; a plugin is developed with exactly the Effect that the runner has. */
const withVersions = (text: string): string => {
  const { effect, ours } = versions()
  return text
    .replace(/("@etl-stream\/[a-z-]+": )"[^"]*"/g, `$1"^${ours}"`)
    .replace(/("effect": )"\^[^"]*"/g, `$1"^${effect}"`)
    .replace(/("effect": )"\d[^"]*"/g, `$1"${effect}"`)
}

/** Files of a template, relative to it. */
const filesIn = (template: string): ReadonlyArray<string> =>
  Fs.readdirSync(template, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(template, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))

/** npm would leave out a file of this name, or obey it. */
const targetOf = (file: string): string => file === "gitignore" ? ".gitignore" : file

/** What is to be written, by its path in the project. */
const contents = (kind: Kind, name: string): ReadonlyMap<string, string> =>
  new Map(
    parts[kind].flatMap((template) =>
      filesIn(join(templates, template)).map((file): readonly [string, string] => {
        const text = Fs.readFileSync(join(templates, template, file), "utf8").replaceAll(placeholder, name)
        return [targetOf(file), file === "package.json" ? withVersions(text) : text]
      })
    ).toSorted(([one], [other]) => one < other ? -1 : 1)
  )

const write = (directory: string, files: ReadonlyMap<string, string>): Effect.Effect<void, CommandError> =>
  Effect.try({
    try: () => {
      for (const [file, text] of files) {
        const path = join(directory, file)
        Fs.mkdirSync(dirname(path), { recursive: true })
        Fs.writeFileSync(path, text, { flag: "wx" })
      }
    },
    catch: (cause) =>
      new CommandError({
        code: "Forbidden",
        message: "The project can't be written",
        hint: "Check the permissions and the disk of its folder, or name another one with `--directory`.",
        exitCode: ExitCode.environment,
        cause
      })
  })

/** What can be done with the new project, each with what it is for. */
const steps = (directory: string): ReadonlyArray<readonly [command: string, what: string]> => [
  [`cd ${/\s/.test(directory) ? JSON.stringify(directory) : directory}`, ""],
  ["npm install", ""],
  ["npm test", "tries the plugin against the contract of its kind"],
  ["npx etl-stream run example.yaml", "runs it; Ctrl-C ends it"],
  ["npm run build", "makes what is published"]
]

export const create = Effect.fn("PluginNew.create")(
  function*({ directory, from, kind, name }: Options): Effect.fn.Return<Result, CommandError> {
    const full = yield* packageName(kind, name)
    const folder = resolve(from, directory ?? basename(full))
    const shown = relative(from, folder) || "."
    yield* checkFree(folder, shown)
    const files = contents(kind, full)
    yield* write(folder, files)
    const next = steps(shown)
    const width = Math.max(...next.map(([command]) => command.length))
    return {
      command: "plugin new",
      data: {
        kind,
        package: full,
        directory: folder,
        files: [...files.keys()],
        next: next.map(([command]) => command)
      },
      text: [
        `${full} is in ${shown}: a ${PluginShape.kinds[kind]} that works, to be made yours (begin with src/).`,
        "",
        "Next:",
        ...next.map(([command, what]) => `  ${what === "" ? command : `${command.padEnd(width)}  # ${what}`}`)
      ].join("\n")
    }
  }
)

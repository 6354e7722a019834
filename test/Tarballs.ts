/**
 * Our packages as they would be published, and projects that install them: what a user has, instead of what the workspace links.
 *
 * `packed` builds the packages and packs them with `pnpm pack`, which puts `publishConfig.exports` into their manifests and versions in place of
 * `workspace:*` (`npm pack` does neither). That is done once for the content of their sources, for all test files that ask, and kept in
 * `node_modules/.cache`. `install` installs a project from these tarballs with npm, as the machine's npm is configured.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"

/** Something of the bench failed: a build, a pack, an install. The message has the command and what it said. */
export class TarballsError extends Schema.TaggedError<TarballsError>("@etl-stream/test/TarballsError")(
  "TarballsError",
  { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }
) {}

export const root = dirname(import.meta.dirname)
const cache = join(root, "node_modules", ".cache", "etl-stream-tarballs")

/** How a command ended. `code` is null when a signal ended it. */
export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * What commands in a project see of this process's environment: not that a test runner, a script of npm or a checkout of ours is around them. How npm reaches its
 * registry stays.
 */
const environment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      !/^(npm_(lifecycle|package|command|execpath|node_execpath)|npm_config_(local_)?prefix$|INIT_CWD$|VITEST|TEST$|NODE_ENV$|NODE_OPTIONS$|ETL_STREAM_)/
        .test(name)
    )
  )

/** Runs a command to its end; it is killed when the effect is interrupted. */
export const execute = (
  command: string,
  args: ReadonlyArray<string>,
  cwd: string,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Ended, TarballsError> =>
  Effect.callback<Ended, TarballsError>((resume) => {
    const child = spawn(command, [...args], {
      cwd,
      env: { ...environment(), ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
    child.once("error", (cause) =>
      resume(Effect.fail(new TarballsError({ message: `${command} could not be started`, cause }))))
    // After the last output.
    child.once("close", (code) =>
      resume(Effect.succeed({ code, stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** The same for a command that has to succeed. */
export const succeed = (
  command: string,
  args: ReadonlyArray<string>,
  cwd: string,
  env?: Readonly<Record<string, string>>
): Effect.Effect<Ended, TarballsError> =>
  Effect.flatMap(execute(command, args, cwd, env), (ended) =>
    ended.code === 0 ? Effect.succeed(ended) : Effect.fail(
      new TarballsError({
        message: `\`${command} ${args.join(" ")}\` in ${cwd} ended with ${ended.code}:\n${
          `${ended.stdout}\n${ended.stderr}`.slice(-6000)
        }`
      })
    ))

/** Runs a command of a project's dependencies (`etl-stream`, `tsc`), as `npx` does. Cheaper than `npx`, which asks npm first. */
export const binary = (
  name: string,
  args: ReadonlyArray<string>,
  folder: string,
  env?: Readonly<Record<string, string>>
): Effect.Effect<Ended, TarballsError> =>
  Effect.suspend(() => {
    const file = parents(folder).map((parent) => join(parent, "node_modules", ".bin", name)).find((path) =>
      Fs.existsSync(path)
    )
    return file === undefined
      ? Effect.fail(new TarballsError({ message: `There is no command ${name} in ${folder}` }))
      : execute(file, args, folder, { PATH: [dirname(file), process.env["PATH"]].join(delimiter), ...env })
  })

const parents = (folder: string): ReadonlyArray<string> => {
  const parent = dirname(folder)
  return parent === folder ? [folder] : [folder, ...parents(parent)]
}

const PackageJson = Schema.Struct({
  name: Schema.String,
  version: Schema.String,
  private: Schema.optionalKey(Schema.Boolean)
})
const decodePackageJson = Schema.decodeUnknownSync(Schema.fromJsonString(PackageJson))

interface Package {
  readonly name: string
  readonly version: string
  readonly folder: string
}

/** The packages that are published. */
const packages = (): ReadonlyArray<Package> =>
  Fs.globSync(["packages/*/package.json", "apps/*/package.json"], { cwd: root }).toSorted().flatMap((file) => {
    const { name, private: isPrivate, version } = decodePackageJson(Fs.readFileSync(join(root, file), "utf8"))
    return isPrivate === true ? [] : [{ name, version, folder: join(root, dirname(file)) }]
  })

/** Tells the sources of all packages, and what builds them, from every other state of theirs. */
const fingerprint = (): string => {
  const hash = createHash("sha256")
  const files = Fs.globSync(
    ["tsconfig.base.json", "tsconfig.build.json", "pnpm-lock.yaml", "LICENSE", "{packages,apps}/*/**/*"],
    { cwd: root, exclude: ["**/node_modules/**", "*/*/dist/**", "*/*/test/**"] }
  )
  for (const file of files.toSorted()) {
    const path = join(root, file)
    if (Fs.statSync(path).isFile()) hash.update(`${file}\0`).update(Fs.readFileSync(path)).update("\0")
  }
  return hash.digest("hex").slice(0, 20)
}

const isBusy = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "errcode" in cause && cause.errcode === 5

/** Held by one process at a time, and by none that has died: SQLite's lock of a file. */
const lock: Effect.Effect<void, TarballsError, Scope.Scope> = Effect.acquireRelease(
  Effect.try({
    try: () => {
      Fs.mkdirSync(cache, { recursive: true })
      const database = new DatabaseSync(join(cache, "lock.sqlite"), { timeout: 0 })
      try {
        database.exec("BEGIN EXCLUSIVE")
      } catch (cause) {
        database.close()
        throw cause
      }
      return database
    },
    catch: (cause) => new TarballsError({ message: "The lock of the tarballs can't be had", cause })
  }).pipe(
    Effect.retry({ schedule: Schedule.spaced("200 millis"), times: 3000, while: ({ cause }) => isBusy(cause) })
  ),
  (database) => Effect.sync(() => database.close())
).pipe(Effect.asVoid)

/** The packed packages: for each name its tarball, an absolute path. */
export type Tarballs = ReadonlyMap<string, string>

const buildAndPack = Effect.fnUntraced(function*(folder: string) {
  const all = packages()
  // What is built is what is there now: a module that was removed must not be packed.
  yield* Effect.sync(() => {
    for (const other of Fs.readdirSync(cache)) {
      if (!other.startsWith("lock.")) Fs.rmSync(join(cache, other), { recursive: true, force: true })
    }
    for (const { folder } of all) Fs.rmSync(join(folder, "dist"), { recursive: true, force: true })
  })
  yield* succeed("tsc", ["-b", "tsconfig.build.json"], root)
  const partial = `${folder}.partial`
  yield* Effect.forEach(
    all,
    (one) => succeed("pnpm", ["pack", "--pack-destination", partial], one.folder),
    { concurrency: 2, discard: true }
  )
  // Nobody takes a half-packed folder for a whole one.
  yield* Effect.sync(() => Fs.renameSync(partial, folder))
})

/** All packages that are published, built and packed. */
export const packed: Effect.Effect<Tarballs, TarballsError> = Effect.gen(function*() {
  yield* lock
  const folder = join(cache, fingerprint())
  if (!Fs.existsSync(folder)) yield* buildAndPack(folder)
  return new Map(
    packages().map(({ name, version }) => [
      name,
      join(folder, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`)
    ])
  )
}).pipe(Effect.scoped)

/** What stands in a project's `package.json`. */
export interface Manifest {
  readonly name?: string
  readonly workspaces?: ReadonlyArray<string>
  /** Versions; those of our packages are taken from the tarballs, whatever stands here. */
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly [key: string]: unknown
}

const decodeVersions = Schema.decodeUnknownSync(Schema.fromJsonString(
  Schema.Struct({ devDependencies: Schema.Record(Schema.String, Schema.String) })
))

/** Versions of the tools that this repository itself is built and tested with. */
export const tools = (...names: ReadonlyArray<string>): Readonly<Record<string, string>> => {
  const { devDependencies } = decodeVersions(Fs.readFileSync(join(root, "package.json"), "utf8"))
  return Object.fromEntries(names.map((name) => [name, devDependencies[name] ?? ""]))
}

const flags = ["--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"]

const installHere = Effect.fnUntraced(function*(tarballs: Tarballs, folder: string, manifest: Manifest) {
  const ours = Object.fromEntries([...tarballs].map(([name, path]) => [name, `file:${path}`]))
  const fromTarballs = (dependencies: Readonly<Record<string, string>> = {}) =>
    Object.fromEntries(Object.entries(dependencies).map(([name, version]) => [name, ours[name] ?? version]))
  const text = JSON.stringify({
    name: "project",
    private: true,
    type: "module",
    ...manifest,
    dependencies: fromTarballs(manifest.dependencies),
    devDependencies: fromTarballs(manifest.devDependencies),
    overrides: ours
  })
  yield* Effect.sync(() => {
    Fs.mkdirSync(folder, { recursive: true })
    Fs.writeFileSync(join(folder, "package.json"), text)
  })
  yield* succeed("npm", ["install", ...flags], folder)
})

/** Copies a folder whose files nobody changes in place: by links, where both are on one disk. */
const copy = (from: string, to: string): void => {
  Fs.mkdirSync(to, { recursive: true })
  for (const entry of Fs.readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name)
    const target = join(to, entry.name)
    if (entry.isDirectory()) copy(source, target)
    else if (entry.isSymbolicLink()) Fs.symlinkSync(Fs.readlinkSync(source), target)
    else {
      try {
        Fs.linkSync(source, target)
      } catch {
        Fs.copyFileSync(source, target)
      }
    }
  }
}

/** A project that has all our packages and the tools of plugins' authors, installed once: others begin as copies of it, which takes a tenth of the time. */
const everything = Effect.fnUntraced(function*(tarballs: Tarballs) {
  yield* lock
  const [first = ""] = tarballs.values()
  const folder = `${dirname(first)}.installed`
  if (!Fs.existsSync(folder)) {
    const partial = `${folder}.partial`
    yield* installHere(tarballs, partial, {
      dependencies: Object.fromEntries([...tarballs.keys()].map((name) => [name, "*"])),
      devDependencies: tools("@types/node", "effect", "typescript", "vitest")
    })
    yield* Effect.sync(() => Fs.renameSync(partial, folder))
  }
  return folder
}, Effect.scoped)

/**
 * Writes `manifest` as `package.json` of `folder` and installs it. Our packages come from the tarballs wherever in the tree they are asked for, also by
 * members of a workspace.
 */
export const install = (tarballs: Tarballs, folder: string, manifest: Manifest): Effect.Effect<void, TarballsError> =>
  Effect.gen(function*() {
    if (!Fs.existsSync(join(folder, "node_modules"))) {
      const like = yield* everything(tarballs)
      yield* Effect.sync(() => {
        copy(join(like, "node_modules"), join(folder, "node_modules"))
        Fs.copyFileSync(join(like, "package-lock.json"), join(folder, "package-lock.json"))
      })
    }
    yield* installHere(tarballs, folder, manifest)
  })

/** A folder outside of the checkout, so that nothing of the workspace is found from it; removed with the scope. */
export const temporaryFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(join(tmpdir(), "etl-stream-tarballs-")))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
)

/**
 * Programs that tests and benches run and npm doesn't have: found on the path, or installed from Debian's package where that is allowed.
 *
 * Installing needs root and `apt-get`. A service that comes with the package is not started. Processes that install at the same time wait for
 * each other.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { execFile } from "node:child_process"
import { existsSync, globSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"

export class MissingProgram extends Schema.TaggedError<MissingProgram>("@etl-stream/testkit/MissingProgram")(
  "MissingProgram",
  { message: Schema.String }
) {}

export interface Options {
  /** Names of the programs, all of which are needed. */
  readonly programs: ReadonlyArray<string>
  /** Debian's package that has them. */
  readonly package: string
  /** Folders to look in after the path; wildcards are allowed. */
  readonly folders?: ReadonlyArray<string>
}

const find = (name: string, folders: ReadonlyArray<string>): string | undefined =>
  [...(process.env["PATH"] ?? "").split(path.delimiter), ...folders.flatMap((folder) => globSync(folder))]
    .map((folder) => path.join(folder, name))
    .find((file) => existsSync(file))

const located = ({ folders = [], programs }: Options): ReadonlyArray<string> | undefined => {
  const files = programs.map((name) => find(name, folders)).filter((file) => file !== undefined)
  return files.length === programs.length ? files : undefined
}

/** While it runs, packages are told not to start services (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt). */
const install = `
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT INT TERM
  printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update && apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$1"
`

/** Paths of the programs, in the order of their names. */
export const locate = (options: Options): Effect.Effect<ReadonlyArray<string>, MissingProgram> =>
  Effect.gen(function*() {
    const found = located(options)
    if (found !== undefined) return found
    const missing = (why: string) =>
      new MissingProgram({
        message: `${
          options.programs.join(" and ")
        } can't be found ${why}: install them (Debian: apt-get install ${options.package})`
      })
    if (process.getuid?.() !== 0) return yield* missing("and only root may install programs")
    const lock = path.join(tmpdir(), "etl-stream-install.lock")
    const output = yield* Effect.callback<string>((resume) => {
      execFile("flock", [lock, "sh", "-c", install, "sh", options.package], (error, stdout, stderr) => {
        resume(Effect.succeed(error === null ? "" : `${stdout}${stderr}${error.message}`.slice(-2000)))
      })
    })
    return located(options) ?? (yield* missing(`and could not be installed: ${output}`))
  })

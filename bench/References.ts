/**
 * The programs that come with PostgreSQL and are measured against: `pg_recvlogical` and `psql`.
 *
 * They are found on the path or where Debian puts them; where they are missing, Debian's package is installed.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { spawnSync } from "node:child_process"
import { existsSync, globSync } from "node:fs"
import * as path from "node:path"
import type { Server, Written } from "./Server.ts"

export class MissingReference extends Schema.TaggedError<MissingReference>("@etl-stream/bench/MissingReference")(
  "MissingReference",
  { message: Schema.String }
) {}

export interface References {
  readonly recvlogical: string
  readonly psql: string
  /** What `pg_recvlogical --version` says. */
  readonly version: string
}

const find = (name: string): string | undefined => {
  const folders = [...(process.env["PATH"] ?? "").split(path.delimiter), ...globSync("/usr/lib/postgresql/*/bin")]
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file))
}

const located = (): References | undefined => {
  const recvlogical = find("pg_recvlogical")
  const psql = find("psql")
  if (recvlogical === undefined || psql === undefined) return undefined
  const { stdout } = spawnSync(recvlogical, ["--version"], { encoding: "utf8" })
  return { recvlogical, psql, version: stdout.trim() }
}

/** Finds the programs, and installs them where they are missing and may be. */
export const locate: Effect.Effect<References, MissingReference> = Effect.gen(function*() {
  const found = located()
  if (found !== undefined) return found
  for (const args of [["update"], ["install", "--yes", "--no-install-recommends", "postgresql-client"]]) {
    spawnSync("apt-get", args, { stdio: ["ignore", "inherit", "inherit"] })
  }
  const installed = located()
  if (installed !== undefined) return installed
  return yield* new MissingReference({
    message: "pg_recvlogical and psql are needed to measure against and could not be installed: " +
      "install PostgreSQL's client programs (Debian: apt-get install postgresql-client)"
  })
})

const connection = ({ database, host, port, user }: Server) => [
  `--host=${host}`,
  `--port=${port}`,
  `--username=${user}`,
  `--dbname=${database}`
]

/** Arguments that have `pg_recvlogical` read a slot up to the end of what was written, to `file`. */
export const recvlogical = (
  server: Server,
  { publication, until }: Pick<Written, "publication" | "until">,
  slot: string,
  file: string
): ReadonlyArray<string> => [
  ...connection(server),
  `--slot=${slot}`,
  "--start",
  "--no-loop",
  `--file=${file}`,
  "--fsync-interval=0",
  `--endpos=${until}`,
  "--option=proto_version=1",
  `--option=publication_names=${publication}`
]

/** Arguments that have `psql` copy a table. */
export const copy = (server: Server, table: string): ReadonlyArray<string> => [
  ...connection(server),
  "--no-psqlrc",
  "--quiet",
  `--command=COPY ${table} TO STDOUT (FORMAT binary)`
]

/** The environment of both. */
export const environment = ({ password }: Server): Readonly<Record<string, string>> => ({ PGPASSWORD: password })

/**
 * The programs that come with PostgreSQL and are measured against: `pg_recvlogical` and `psql`.
 *
 * They are found on the path or where Debian puts them; where they are missing, Debian's package is installed.
 */
import * as DebianProgram from "@etl-stream/testkit/DebianProgram"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import type { Server, Written } from "./Server.ts"

export interface References {
  readonly recvlogical: string
  readonly psql: string
  /** What `pg_recvlogical --version` says. */
  readonly version: string
}

/** Finds the programs, and installs them where they are missing and may be. */
export const locate: Effect.Effect<References, DebianProgram.MissingProgram> = Effect.map(
  DebianProgram.locate({
    programs: ["pg_recvlogical", "psql"],
    package: "postgresql-client",
    folders: ["/usr/lib/postgresql/*/bin"]
  }),
  ([recvlogical = "", psql = ""]) => {
    const { stdout } = spawnSync(recvlogical, ["--version"], { encoding: "utf8" })
    return { recvlogical, psql, version: stdout.trim() }
  }
)

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

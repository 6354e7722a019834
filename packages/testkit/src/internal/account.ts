/**
 * The operating-system account that PostgreSQL runs under: our own, or an unprivileged one when we are root.
 *
 * PostgreSQL refuses root and looks its user up by id, so the account has to exist: `postgres` when the machine has it, else `nobody`.
 */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"

export interface Account {
  readonly uid: number
  readonly gid: number
}

/** The account to switch to, or `undefined` when the present one will do. */
export const unprivileged = (): Account | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const entries = readFileSync("/etc/passwd", "utf8").split("\n").map((line) => line.split(":"))
  for (const name of ["postgres", "nobody"]) {
    const entry = entries.find((fields) => fields[0] === name)
    if (entry !== undefined) return { uid: Number(entry[2]), gid: Number(entry[3]) }
  }
  throw new Error(
    "PostgreSQL can't run as root, and the machine has neither a user postgres nor nobody: run as another user"
  )
}

/** Runs a program to its end; fails with what it wrote to standard error. */
export const run = (program: string, args: ReadonlyArray<string>, account: Account | undefined): Promise<void> =>
  new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { ...account, cwd: "/", env: { PATH: process.env["PATH"], LC_ALL: "C" } },
      (error, _out, stderr) => {
        if (error === null) resolve()
        else reject(new Error(`${program} failed: ${stderr.trim() === "" ? error.message : stderr.trim()}`))
      }
    )
  })

/**
 * Who this process is, for others who share its state store, and whether another one has ended.
 *
 * Text such as `shop-1, process 4711 (5d1f0c2b9a7e-88123)`: host and process id for people, and, on Linux, what tells this process from any that had or will
 * have its id: a digest of the boot and of the namespace that process ids belong to, and the process's start time.
 */
import { createHash } from "node:crypto"
import { readFileSync, readlinkSync } from "node:fs"
import { hostname } from "node:os"

const attempt = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** When a process started, in clock ticks since boot; undefined when there is no such process, or nothing of it but its exit code. */
const startOf = (pid: number): string | undefined => {
  // The command's name, in parentheses, may contain anything.
  const fields = attempt(() => readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\)/s, "").split(" "))
  return fields === undefined || fields[1] === "Z" || fields[1] === "X" ? undefined : fields[20]
}

/** Within what process ids mean the same; undefined where that can't be told. */
const realm = attempt(() =>
  createHash("sha256")
    .update(readFileSync("/proc/sys/kernel/random/boot_id"))
    .update(readlinkSync("/proc/self/ns/pid"))
    .digest("hex").slice(0, 12)
)

/** The identity of a process of this machine. */
export const of = (pid: number): string => {
  const start = startOf(pid)
  return `${hostname()}, process ${pid}${realm === undefined || start === undefined ? "" : ` (${realm}-${start})`}`
}

export const identity = of(process.pid)

/** Whether it is certain that the process of an identity has ended. */
export const hasEnded = (other: string): boolean => {
  const match = /, process (\d{1,10}) \(([0-9a-f]{12})-(\d+)\)$/.exec(other)
  if (match === null || match[2] !== realm) return false
  // Where other users' processes are hidden, ours is seen and theirs aren't.
  return startOf(Number(match[1])) !== match[3] && startOf(1) !== undefined
}

/**
 * Folders that outlast the machine's crash: a name is only there for certain when the folder that it is in is on the disk.
 */
import { mkdir, open } from "node:fs/promises"
import { dirname, resolve } from "node:path"

/** Folders that are there for certain, and all above them. */
const certain = new Set<string>()
/** Folders that this process made, and that aren't certain yet. */
const made = new Set<string>()

/** What it says of a folder that may not be opened or synchronised: whoever made it saw to that. */
const refusals: ReadonlySet<unknown> = new Set(["EACCES", "EPERM", "EINVAL", "ENOTSUP", "EROFS"])

/** Makes certain that the names in a folder, or what is in a file, are on the disk. */
export const synchronise = async (path: string): Promise<void> => {
  const handle = await open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder, and those above it. Whoever made those that are there already may not have come to make them certain. */
export const make = async (folder: string): Promise<void> => {
  const at = resolve(folder)
  const first = await mkdir(at, { recursive: true, mode: 0o700 })
  const top = first === undefined ? Infinity : resolve(first).length
  for (let path = at; path.length >= top; path = dirname(path)) {
    made.add(path)
    certain.delete(path)
  }
  const open: Array<string> = []
  for (let path = at; path !== dirname(path) && !certain.has(path); path = dirname(path)) open.push(path)
  // From the top, so that what is certain is so with all above it.
  for (const path of open.reverse()) {
    try {
      await synchronise(dirname(path))
    } catch (cause) {
      const refused = cause instanceof Error && "code" in cause && refusals.has(cause.code)
      if (made.has(path) || !refused) throw cause
    }
    made.delete(path)
    certain.add(path)
  }
}

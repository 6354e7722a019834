/**
 * Folders that outlast the machine's crash: a name is only there for certain when the folder that it is in is on the disk.
 */
import { mkdir, open } from "node:fs/promises"
import { dirname, resolve } from "node:path"

/** Folders that are there for certain, by this process's work. */
const certain = new Set<string>()

/** Makes certain that the names in a folder, or what is in a file, are on the disk. */
export const synchronise = async (path: string): Promise<void> => {
  const handle = await open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder, and those above it. Of those below `root` that are there already, whoever made them may not have made them certain. */
export const make = async (folder: string, root: string = folder): Promise<void> => {
  const at = resolve(folder)
  const first = await mkdir(at, { recursive: true, mode: 0o700 })
  if (first === undefined && certain.has(at)) return
  const top = Math.min(resolve(root).length + 1, first === undefined ? Infinity : resolve(first).length)
  for (let made = at; made.length >= top && made !== dirname(made); made = dirname(made)) {
    await synchronise(dirname(made))
  }
  certain.add(at)
}

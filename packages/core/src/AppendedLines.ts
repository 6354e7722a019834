/**
 * Files of JSON lines that several processes append to at a time, and that nothing else is ever done to.
 *
 * Each line begins with a line end of its own, so that one that was cut short by a crash spoils no other; what isn't a whole line counts for nothing. Files are
 * readable by their owner only.
 */
import type * as Option from "effect/Option"
import { createReadStream } from "node:fs"
import { type FileHandle, mkdir, open, stat } from "node:fs/promises"
import { dirname } from "node:path"
import { createInterface } from "node:readline"

/** Whether an error says that a file or a folder isn't there. */
export const isMissing = (cause: unknown): boolean =>
  cause instanceof Error && "code" in cause && cause.code === "ENOENT"

/** The lines of a file that `decode` takes, each with its number. None when there is no file. */
export async function* read<A>(
  path: string,
  decode: (text: string) => Option.Option<A>
): AsyncGenerator<readonly [number: number, line: A]> {
  const input = createReadStream(path)
  let at = 0
  try {
    for await (const text of createInterface({ input, crlfDelay: Infinity })) {
      at++
      if (text === "") continue
      const line = decode(text)
      if (line._tag === "Some") yield [at, line.value]
    }
  } catch (cause) {
    if (!isMissing(cause)) throw cause
  } finally {
    input.destroy()
  }
}

/** On one line for readers that take these two for line ends, too. */
const oneLine = (value: object): string =>
  JSON.stringify(value).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029")

/** Makes certain that the names in a folder, or what is in a file, are on the disk. */
export const synchronise = async (path: string): Promise<void> => {
  const handle = await open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Gives a new file to whom its folder belongs, so that an administrator's command leaves nothing that the runner's user can't read. */
export const giveToOwner = async (file: FileHandle, folder: string): Promise<void> => {
  if (process.getuid?.() !== 0) return
  const { gid, uid } = await stat(folder)
  await file.chown(uid, gid)
}

/** Appends lines, on the disk on return, and returns how many bytes they are. */
export const append = async (path: string, lines: ReadonlyArray<object>): Promise<number> => {
  const folder = dirname(path)
  const made = await mkdir(folder, { recursive: true, mode: 0o700 })
  const content = Buffer.from(lines.map((line) => `\n${oneLine(line)}\n`).join(""))
  const file = await open(path, "a", 0o600)
  let size: number
  try {
    size = (await file.stat()).size
    if (size === 0) await giveToOwner(file, folder)
    // All of it or an error: a single write may end early, as it does on a disk that becomes full.
    await file.appendFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  // A new file is only there for certain when its folder is.
  if (size === 0) await synchronise(folder)
  if (made !== undefined) await synchronise(dirname(folder))
  return content.length
}

/** Makes certain that what can be read of a file is on the disk, whoever wrote it. */
export const settle = async (path: string): Promise<void> => {
  try {
    await synchronise(path)
    await synchronise(dirname(path))
  } catch (cause) {
    if (!isMissing(cause)) throw cause
  }
}

/** How long a file is, in bytes: a file that is no longer than it was has no other lines. 0 when there is none. */
export const size = async (path: string): Promise<number> => {
  try {
    return (await stat(path)).size
  } catch (cause) {
    if (isMissing(cause)) return 0
    throw cause
  }
}

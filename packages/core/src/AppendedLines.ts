/**
 * Files of JSON lines that several processes append to at a time, and that nothing else is ever done to.
 *
 * Each line begins with a line end of its own, so that one that was cut short by a crash spoils no other; what isn't a whole line counts for nothing. Files are
 * readable by their owner only.
 */
import type * as Option from "effect/Option"
import { constants, createReadStream } from "node:fs"
import { type FileHandle, open, stat } from "node:fs/promises"
import { dirname } from "node:path"
import { createInterface } from "node:readline"
import * as DurableFolder from "./DurableFolder.ts"

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

/** Gives a new file to whom its folder belongs, so that an administrator's command leaves nothing that the runner's user can't read. */
export const giveToOwner = async (file: FileHandle, folder: string): Promise<void> => {
  if (process.getuid?.() !== 0) return
  const [mine, { gid, uid }] = await Promise.all([file.stat(), stat(folder)])
  if (mine.uid === uid && mine.gid === gid) return
  // Where that isn't allowed, the file is written all the same.
  await file.chown(uid, gid).catch(() => {})
}

/** Opens a file at its end; one that isn't there is made. Not one that a link leads to: who may write here could lead an administrator elsewhere. */
const opened = async (path: string): Promise<readonly [file: FileHandle, isNew: boolean]> => {
  try {
    return [await open(path, "ax", 0o600), true]
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause
    return [await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW), false]
  }
}

/** Files whose names are there for certain. */
const certain = new Set<string>()

/** Appends lines to a file in a folder that is there, on the disk on return, and returns how many bytes they are. */
export const append = async (path: string, lines: ReadonlyArray<object>): Promise<number> => {
  const content = Buffer.from(lines.map((line) => `\n${oneLine(line)}\n`).join(""))
  const [file, isNew] = await opened(path)
  try {
    if (isNew) await giveToOwner(file, dirname(path))
    // One write, since another process's may come between two. It ends early where the disk becomes full.
    const { bytesWritten } = await file.write(content)
    if (bytesWritten < content.length) throw Object.assign(new Error("The disk is full"), { code: "ENOSPC" })
    await file.sync()
  } finally {
    await file.close()
  }
  if (isNew || !certain.has(path)) {
    await DurableFolder.synchronise(dirname(path))
    certain.add(path)
  }
  return content.length
}

/** Makes certain that a file is on the disk that others may have written without coming to that. */
export const settle = async (path: string): Promise<void> => {
  try {
    await DurableFolder.synchronise(path)
    await DurableFolder.synchronise(dirname(path))
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
